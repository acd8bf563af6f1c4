import { PlinthError } from "../../base/index.ts";
import type { Tokenizer } from "../../data/index.ts";
import { type ModelConfig, type ModelFamily, modelFamily } from "../../models/index.ts";

/** A size of a sweep. */
export interface Shape {
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  /** N: all parameters but embedding tables that are only looked up; what 6 N D counts. */
  readonly parameters: number;
  /** Of training: 6 N, and causal attention's products. */
  readonly flopsPerToken: number;
}

export interface ShapeOptions {
  readonly arch: string;
  readonly layers: number;
  readonly headWidth: number;
  readonly context: number;
  /** A head of its own, as muP wants it. */
  readonly untied: boolean;
}

/** The configuration of a width. Depth and the width of heads are the same for all: what grows is their number. */
export function configOf(options: ShapeOptions, tokenizer: Tokenizer, width: number): ModelConfig {
  return modelFamily(options.arch, "--arch").createConfig({
    vocabSize: tokenizer.vocabSize,
    contextLength: options.context,
    hiddenSize: width,
    numLayers: options.layers,
    numHeads: width / options.headWidth,
    ...(options.untied ? { tieWordEmbeddings: false } : {}),
    bosTokenId: tokenizer.bosId,
    eosTokenId: tokenizer.eosId,
  });
}

/** The shape whose parameters are nearest to a target. */
export function shapeNear(target: number, options: ShapeOptions, tokenizer: Tokenizer): Shape {
  const distance = ({ parameters }: Shape): number => Math.abs(Math.log(parameters / target));
  let best: Shape | undefined;
  for (let heads = 1; ; heads++) {
    const shape = shapeOf(heads * options.headWidth, options, tokenizer);
    if (best !== undefined && distance(shape) >= distance(best)) return best;
    best = shape;
  }
}

function shapeOf(width: number, options: ShapeOptions, tokenizer: Tokenizer): Shape {
  const family = modelFamily(options.arch, "--arch");
  const config = configOf(options, tokenizer, width);
  const parameters = countProducts(family, config);
  const { layers, context, headWidth } = options;
  // Scores and values: 2 T D multiplications and additions each per token and layer, half of them masked, three passes.
  const flopsPerToken = 6 * parameters + 6 * layers * context * width;
  return { width, heads: width / headWidth, layers, parameters, flopsPerToken };
}

/** Every parameter, embeddings only where they are the head too. */
function countProducts(family: ModelFamily, config: ModelConfig): number {
  let count = 0;
  for (const spec of Object.values(family.parameters(config))) {
    const size = spec.shape.reduce((product, n) => product * n, 1);
    const isHead = config.tieWordEmbeddings && spec.shape[0] === config.vocabSize;
    if (spec.module !== "embedding" || isHead) count += size;
  }
  return count;
}

/** Distinct shapes for the sizes asked for, smallest first. Throws PlinthError when two are the same. */
export function shapesOf(targets: readonly number[], options: ShapeOptions, tokenizer: Tokenizer): Shape[] {
  const shapes = [...targets].sort((a, b) => a - b).map((target) => shapeNear(target, options, tokenizer));
  for (const [i, shape] of shapes.entries()) {
    if (i === 0 || shape.width !== shapes[i - 1]?.width) continue;
    throw new PlinthError(
      `--sizes: two of them are the same model of width ${shape.width} (${shape.parameters} parameters)`,
      "choose sizes further apart, fewer --layers or a smaller --head-width",
    );
  }
  return shapes;
}
