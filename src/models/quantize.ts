import { PlinthError } from "../base/index.ts";
import {
  decodeFloat32,
  NdArray,
  type QuantizedLayout,
  type QuantizeOptions,
  quantizedMatmul,
  quantizeWeight,
  type Tensor,
  type Tree,
} from "../engine/index.ts";
import type { ModelConfig, ModelFamily } from "./family.ts";
import { addBias, moduleAt, requiredParameter, wrapModule } from "./layers/index.ts";
import type { Model } from "./model.ts";

export interface ModelQuantization extends QuantizeOptions {
  /** Also the output head, which loses more than other layers; a head tied to the embeddings gets weights of its own. Default false. */
  readonly head?: boolean | undefined;
}

/**
 * The model with quantised weights in its linear layers; embeddings, norms, biases and (without `head`) the output head
 * stay as they are, and so does a new head that is yet to be trained. It runs like any other model, but can be neither saved nor merged into. Throws PlinthError when it is
 * quantised already.
 */
export function quantizeModel(model: Model, options: ModelQuantization): Model {
  if (model.quantized !== undefined) {
    throw new PlinthError("the model is quantised already", "quantise the model that was loaded");
  }
  const { family } = model;
  const config = untied(model.config, options);
  const params = new Map<string, NdArray>();
  const layouts = new Map<string, QuantizedLayout>();
  for (const [name, { module, isHead = false }] of Object.entries(family.parameters(config))) {
    const array = model.params.get(name) ?? (isHead ? tiedHead(model, name) : undefined);
    if (array === undefined) throw new PlinthError(`the model has no parameter "${name}"`, "load it again");
    const isLinear = (module === "linear" || module === "conv1d") && name.endsWith(".weight");
    const isUntrained = model.fresh?.includes(name) === true;
    if (!isLinear || isUntrained || (isHead && options.head !== true)) {
      params.set(name, array);
      continue;
    }
    const { words, ...layout } = quantizeWeight(module === "conv1d" ? transposed(array) : array, options);
    params.set(name, words);
    layouts.set(name, layout);
  }
  const edit = (tree: Tree<Tensor>): Tree<Tensor> => quantizeTree(tree, layouts);
  return { ...model, config, params, family: editFamily(family, edit), quantized: layouts, source: undefined };
}

/** The tree with products with packed words in the linear layers that have them. */
export function quantizeTree(tree: Tree<Tensor>, layouts: ReadonlyMap<string, QuantizedLayout>): Tree<Tensor> {
  let edited = tree;
  for (const [name, layout] of layouts) {
    const path = name.slice(0, -".weight".length);
    const p = moduleAt(tree, path);
    const product = (x: Tensor): Tensor => addBias(quantizedMatmul(x, requiredParameter(p, "weight"), layout), p);
    // An adapter's wrap has to stay outside, whichever of the two came first.
    edited = wrapModule(edited, path, product, { inside: true });
  }
  return edited;
}

/** The family with its forward pass on an edited tree of parameters. */
export function editFamily<C extends ModelConfig>(
  family: ModelFamily<C>,
  edit: (params: Tree<Tensor>) => Tree<Tensor>,
): ModelFamily<C> {
  const { forward, hidden } = family;
  return {
    ...family,
    forward: (params, inputs, config, context) => forward(edit(params), inputs, config, context),
    ...(hidden === undefined
      ? {}
      : { hidden: (params, inputs, config, context) => hidden(edit(params), inputs, config, context) }),
  };
}

/** A head that is to be quantised cannot be the embedding table as well. */
function untied<C extends ModelConfig>(config: C, { head }: ModelQuantization): C {
  return head === true && config.tieWordEmbeddings ? { ...config, tieWordEmbeddings: false } : config;
}

function tiedHead({ family, config, params }: Model, name: string): NdArray | undefined {
  return params.get(family.checkpoint.tied(config)[name] ?? "");
}

function transposed(array: NdArray): NdArray {
  const [rows, columns] = array.shape as [number, number];
  const from = decodeFloat32(array.dtype, array.data);
  const to = new Float32Array(from.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j] as number;
  }
  return NdArray.float32([columns, rows], to);
}
