import { constant, sizeOf, type Tensor } from "../../engine/index.ts";
import type { ModelConfig, ModelFamily, ParameterSpec } from "../family.ts";
import { type CausalHead, causalHead, kvCacheShape, type TrunkOutputs } from "./causal-head.ts";
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
  readonly attentionDropout: number;
  readonly initializerRange: number;
}

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
  /** One layer, x[B,T,D] -> x[B,T,D], and for `auxiliaryLoss` what else it gives; `p` is the subtree `model.layers.<layer>`. */
  block(x: Tensor, p: Module, context: RotaryBlock<C>): Tensor | readonly Tensor[];
  /** What stands between the last block and the head: the subtree `model.norm`. */
  norm(x: Tensor, p: Module, c: C): Tensor;
  /** What becomes of the tokens' vectors before the first block. */
  scaleEmbeddings?(x: Tensor, c: C, dropout: DropoutStreams): Tensor;
  /** Rotary positions of a layer; default those of the config for all. */
  rope?(c: C, layer: number): RotaryPositions;
  /** What training adds to the mean loss; `notes` is what each block gave besides x, `tokens` their number. */
  auxiliaryLoss?(notes: readonly (readonly Tensor[])[], tokens: number, c: C): Tensor | undefined;
}

const layerName = (layer: number): string => `model.layers.${layer}`;

/**
 * The frame of a decoder with rotary positions whose parameters are called as Llama's: `model.embed_tokens`,
 * `model.layers.<i>`, `model.norm`, `lm_head`. Everything that follows from these names and from the block.
 */
export function rotaryDecoder<C extends RotaryDecoderConfig>(
  parts: RotaryDecoder<C>,
): Pick<ModelFamily<C>, "checkpoint" | "cacheShape" | "forward" | "hidden"> {
  const { block, norm, scaleEmbeddings = (x) => x, rope = configuredRope, auxiliaryLoss, softCap } = parts;
  const trunk: CausalHead<C>["trunk"] = (params, inputs, c, context): TrunkOutputs => {
    checkInputs(inputs, c, "max_position_embeddings");
    const positions = positionsOf(inputs);
    const dropout = new DropoutStreams(context);
    const newCache: Record<string, Tensor> = {};
    const rotations = new Map<string, Rotation>();
    const rotationOf = (layer: number): Rotation => {
      const { theta, scaling } = rope(c, layer);
      const key = JSON.stringify([theta, scaling]);
      const known = rotations.get(key);
      if (known !== undefined) return known;
      const invFreq = constant(ropeFrequencies(scaling, theta, c.headDim), { shape: [c.headDim / 2] });
      const rotation = { positions, invFreq, scoreFactor: ropeScoreFactor(scaling) };
      rotations.set(key, rotation);
      return rotation;
    };

    const notes: (readonly Tensor[])[] = [];
    let x = inModule(params, "model.embed_tokens", (p) => scaleEmbeddings(embedding(inputs.tokens, p), c, dropout));
    for (let layer = 0; layer < c.numLayers; layer++) {
      const attention: RotaryAttentionOptions = {
        heads: c,
        rotation: rotationOf(layer),
        scale: c.headDim ** -0.5,
        inputs,
        cacheName: `${layerName(layer)}.self_attn`,
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
      x: inModule(params, "model.norm", (p) => norm(x, p, c)),
      newCache,
      auxiliaryLoss: auxiliaryLoss?.(notes, sizeOf(inputs.tokens.shape), c),
    };
  };
  return {
    checkpoint: {
      optionalPrefix: "model.",
      tied: (c) => (c.tieWordEmbeddings ? { "lm_head.weight": "model.embed_tokens.weight" } : {}),
      inert: /^(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$/,
    },
    cacheShape: (c, batch, length) => kvCacheShape(c, [batch, length], (layer) => `${layerName(layer)}.self_attn`),
    ...causalHead({ embeddings: "model.embed_tokens", trunk, ...(softCap === undefined ? {} : { softCap }) }),
  };
}

function configuredRope({ ropeTheta, ropeScaling }: RotaryDecoderConfig): RotaryPositions {
  return { theta: ropeTheta, scaling: ropeScaling };
}

/**
 * The parameters of {@link rotaryDecoder}; `layer` adds those of one block to the list, under the name it is given. `norms`:
 * where the weight of the last norm starts, or that it is a layer norm.
 */
export function rotaryDecoderParameters(
  c: RotaryDecoderConfig,
  layer: (list: ParameterList, name: string) => void,
  { norms = "ones" }: { norms?: "ones" | "zeros" | "layer" } = {},
): Record<string, ParameterSpec> {
  const list = new ParameterList({ std: c.initializerRange });
  list.embedding("model.embed_tokens", c.vocabSize, c.hiddenSize);
  for (let i = 0; i < c.numLayers; i++) layer(list, layerName(i));
  if (norms === "layer") list.layerNorm("model.norm", c.hiddenSize);
  else list.rmsNorm("model.norm", c.hiddenSize, { start: norms });
  if (!c.tieWordEmbeddings) list.linear("lm_head", c.hiddenSize, c.vocabSize);
  return list.specs;
}
