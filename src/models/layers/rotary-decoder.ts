import { constant, sizeOf, type Tensor } from "../../engine/index.ts";
import type { ModelConfig, ModelFamily, ParameterSpec } from "../family.ts";
import { type CausalHead, causalHead, causalHeadParameters, kvCacheShape, type TrunkOutputs } from "./causal-head.ts";
import { checkInputs, checkpointed, DropoutStreams, positionsOf } from "./decoder.ts";
import { embedding } from "./embedding.ts";
import { inModule, type Module } from "./module.ts";
import { ParameterList } from "./parameter-list.ts";
import { type RotaryPositions, ropeFrequencies, ropeScoreFactor } from "./rope.ts";
import type { RotaryAttentionOptions, Rotation } from "./rotary-attention.ts";

/** What the frame of a rotary decoder reads of its config. */
export interface RotaryDecoderConfig extends ModelConfig {
  readonly ropeTheta: number;
  readonly ropeScaling: RotaryPositions["scaling"];
  /** Share of a head's channels that are rotated, the first ones; all when absent. */
  readonly rotaryShare?: number;
  readonly attentionDropout: number;
  readonly initializerRange: number;
}

/** What the parts of a decoder are called, if not as Llama's; its layers are `<root>.layers.<i>`. */
export interface RotaryNames {
  readonly root: string;
  /** Within the root: the tokens' vectors, and the last norm. */
  readonly embeddings: string;
  readonly norm: string;
  /** Within a layer. */
  readonly attention: string;
  /** The head that is not tied. */
  readonly head: string;
}

const llamaNames: RotaryNames = {
  root: "model",
  embeddings: "embed_tokens",
  norm: "norm",
  attention: "self_attn",
  head: "lm_head",
};

/** What a block of a rotary decoder is told. */
export interface RotaryBlock<C> {
  readonly c: C;
  /** Counted from 0. */
  readonly layer: number;
  /** For `rotaryAttention`: all of it but what is particular to the family; scores are divided by sqrt(K). */
  readonly attention: RotaryAttentionOptions;
  /** For what is dropped outside of attention. */
  readonly dropout: DropoutStreams;
}

export interface RotaryDecoder<C extends RotaryDecoderConfig> extends Pick<CausalHead<C>, "softCap"> {
  /** Default Llama's. */
  readonly names?: RotaryNames;
  /** One layer, x[B,T,D] -> x[B,T,D], and for `auxiliaryLoss` what else it gives; `p` is the layer's subtree. */
  block(x: Tensor, p: Module, context: RotaryBlock<C>): Tensor | readonly Tensor[];
  /** What stands between the last block and the head. */
  norm(x: Tensor, p: Module, c: C): Tensor;
  /** What becomes of the tokens' vectors before the first block. */
  scaleEmbeddings?(x: Tensor, c: C, dropout: DropoutStreams): Tensor;
  /** Rotary positions of a layer; default those of the config for all. */
  rope?(c: C, layer: number): RotaryPositions;
  /** What training adds to the mean loss; `notes` is what each block gave besides x, `tokens` their number. */
  auxiliaryLoss?(notes: readonly (readonly Tensor[])[], tokens: number, c: C): Tensor | undefined;
}

/**
 * The frame of a decoder with rotary positions: everything that follows from the names of its parameters and from the
 * block. They are called as Llama's unless `names` says otherwise: `model.embed_tokens`, `model.layers.<i>`, `model.norm`,
 * `lm_head`.
 */
export function rotaryDecoder<C extends RotaryDecoderConfig>(
  parts: RotaryDecoder<C>,
): Pick<ModelFamily<C>, "checkpoint" | "cacheShape" | "forward" | "hidden"> {
  const { block, norm, scaleEmbeddings = (x) => x, rope = configuredRope, auxiliaryLoss, softCap } = parts;
  const { root, head, ...names } = parts.names ?? llamaNames;
  const embeddings = `${root}.${names.embeddings}`;
  const layerName = (layer: number): string => `${root}.layers.${layer}`;
  const cacheName = (layer: number): string => `${layerName(layer)}.${names.attention}`;
  const trunk: CausalHead<C>["trunk"] = (params, inputs, c, context): TrunkOutputs => {
    checkInputs(inputs, c, "max_position_embeddings");
    const positions = positionsOf(inputs);
    const dropout = new DropoutStreams(context);
    const newCache: Record<string, Tensor> = {};
    const rotations = new Map<string, Rotation>();
    const rotationOf = (layer: number): Rotation => {
      const { theta, scaling, share = 1 } = rope(c, layer);
      const key = JSON.stringify([theta, scaling, share]);
      const known = rotations.get(key);
      if (known !== undefined) return known;
      const width = Math.floor(c.headDim * share);
      const invFreq = constant(ropeFrequencies(scaling, theta, width), { shape: [width / 2] });
      const rotation = { positions, invFreq, scoreFactor: ropeScoreFactor(scaling) };
      rotations.set(key, rotation);
      return rotation;
    };

    const notes: (readonly Tensor[])[] = [];
    let x = inModule(params, embeddings, (p) => scaleEmbeddings(embedding(inputs.tokens, p), c, dropout));
    for (let layer = 0; layer < c.numLayers; layer++) {
      const attention: RotaryAttentionOptions = {
        heads: c,
        rotation: rotationOf(layer),
        scale: c.headDim ** -0.5,
        inputs,
        cacheName: cacheName(layer),
        newCache,
        dropout: dropout.site(c.attentionDropout),
      };
      const result: Tensor | readonly Tensor[] = inModule(params, layerName(layer), (p) =>
        checkpointed(context, x, (x) => block(x, p, { c, layer, attention, dropout })),
      );
      const [y, ...more] = "node" in result ? [result] : (result as readonly [Tensor, ...Tensor[]]);
      x = y;
      notes.push(more);
    }
    return {
      x: inModule(params, `${root}.${names.norm}`, (p) => norm(x, p, c)),
      newCache,
      auxiliaryLoss: auxiliaryLoss?.(notes, sizeOf(inputs.tokens.shape), c),
    };
  };
  return {
    checkpoint: {
      optionalPrefix: `${root}.`,
      tied: (c) => (c.tieWordEmbeddings ? { [`${head}.weight`]: `${embeddings}.weight` } : {}),
      inert: new RegExp(`^(${root}\\.)?(layers\\.\\d+\\.${names.attention}\\.)?rotary_emb\\.inv_freq$`),
    },
    cacheShape: (c, batch, length) => kvCacheShape(c, [batch, length], cacheName),
    ...causalHead({ embeddings, head, trunk, ...(softCap === undefined ? {} : { softCap }) }),
  };
}

function configuredRope({ ropeTheta, ropeScaling, rotaryShare }: RotaryDecoderConfig): RotaryPositions {
  return { theta: ropeTheta, scaling: ropeScaling, share: rotaryShare };
}

/**
 * The parameters of {@link rotaryDecoder}; `layer` adds those of one block to the list, under the name it is given. `norms`:
 * where the weight of the last norm starts, or that it is a layer norm.
 */
export function rotaryDecoderParameters(
  c: RotaryDecoderConfig,
  layer: (list: ParameterList, name: string) => void,
  { norms = "ones", names = llamaNames }: { norms?: "ones" | "zeros" | "layer"; names?: RotaryNames } = {},
): Record<string, ParameterSpec> {
  const list = new ParameterList({ std: c.initializerRange });
  const { root, embeddings, norm, head } = names;
  list.embedding(`${root}.${embeddings}`, c.vocabSize, c.hiddenSize);
  for (let i = 0; i < c.numLayers; i++) layer(list, `${root}.layers.${i}`);
  if (norms === "layer") list.layerNorm(`${root}.${norm}`, c.hiddenSize);
  else list.rmsNorm(`${root}.${norm}`, c.hiddenSize, { start: norms });
  causalHeadParameters(list, c, head);
  return list.specs;
}
