/** The keys of config.json that GPT-2 and StarCoder 1 have in common, and what becomes of them. */
import { z } from "zod";
import { endTokens, expectMultiple, formatEndTokens, tokenIds } from "./config.ts";
import type { ModelDials } from "./family.ts";
import { type ActivationName, activationNames, type GptDecoderConfig } from "./layers/index.ts";

export interface GptConfig extends GptDecoderConfig {
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly attnDropout: number;
  /** Divide attention scores by sqrt(K). */
  readonly scaleAttnWeights: boolean;
}

const rate = z.number().min(0).lt(1);

/** To spread into a family's schema, with GPT-2's defaults; what a family has otherwise comes after. */
export const gptKeys = {
  vocab_size: z.int().positive().default(50257),
  n_positions: z.int().positive().default(1024),
  n_embd: z.int().positive().default(768),
  n_layer: z.int().positive().default(12),
  n_head: z.int().positive().default(12),
  n_inner: z.int().positive().nullish(),
  activation_function: z.enum(activationNames).default("gelu_new"),
  resid_pdrop: rate.default(0.1),
  embd_pdrop: rate.default(0.1),
  attn_pdrop: rate.default(0.1),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  initializer_range: z.number().positive().default(0.02),
  scale_attn_weights: z.boolean().default(true),
  add_cross_attention: z.literal(false).default(false),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
  tie_word_embeddings: z.boolean().default(true),
};
type GptKeys = z.output<z.ZodObject<typeof gptKeys>>;

/** The part of a config that follows from {@link gptKeys}. Throws PlinthError where they do not fit together. */
export function gptConfig(c: GptKeys): Omit<GptConfig, "modelType" | "inert"> {
  expectMultiple(c, "n_embd", "n_head");
  return {
    vocabSize: c.vocab_size,
    contextLength: c.n_positions,
    hiddenSize: c.n_embd,
    numLayers: c.n_layer,
    numHeads: c.n_head,
    numKvHeads: c.n_head,
    headDim: c.n_embd / c.n_head,
    intermediateSize: c.n_inner ?? 4 * c.n_embd,
    activation: c.activation_function,
    layerNormEps: c.layer_norm_epsilon,
    initializerRange: c.initializer_range,
    residDropout: c.resid_pdrop,
    embdDropout: c.embd_pdrop,
    attnDropout: c.attn_pdrop,
    scaleAttnWeights: c.scale_attn_weights,
    tieWordEmbeddings: c.tie_word_embeddings,
    ...endTokens(c),
  };
}

/** The reverse of {@link gptConfig}. */
export function formatGptConfig(c: GptConfig) {
  return {
    ...c.inert,
    model_type: c.modelType,
    vocab_size: c.vocabSize,
    n_positions: c.contextLength,
    n_embd: c.hiddenSize,
    n_layer: c.numLayers,
    n_head: c.numHeads,
    n_inner: c.intermediateSize === 4 * c.hiddenSize ? null : c.intermediateSize,
    activation_function: c.activation,
    resid_pdrop: c.residDropout,
    embd_pdrop: c.embdDropout,
    attn_pdrop: c.attnDropout,
    layer_norm_epsilon: c.layerNormEps,
    initializer_range: c.initializerRange,
    scale_attn_weights: c.scaleAttnWeights,
    tie_word_embeddings: c.tieWordEmbeddings,
    ...formatEndTokens(c),
  };
}

/** The keys that the dials of a new model say; the rest is the family's. */
export function gptDials(dials: ModelDials) {
  const { dropout = 0 } = dials;
  return {
    vocab_size: dials.vocabSize,
    n_positions: dials.contextLength,
    n_embd: dials.hiddenSize,
    n_layer: dials.numLayers,
    n_head: dials.numHeads,
    n_inner: dials.intermediateSize,
    resid_pdrop: dropout,
    embd_pdrop: dropout,
    attn_pdrop: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings ?? true,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  };
}
