/** The keys of config.json that decoders with rotary positions have in common, and what becomes of them. */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { endTokens, expectMultiple, formatEndTokens, tokenIds } from "./config.ts";
import type { ModelDials } from "./family.ts";
import {
  type ActivationName,
  activationNames,
  formatRope,
  parseRope,
  type RotaryDecoderConfig,
} from "./layers/index.ts";

export interface RotaryConfig extends RotaryDecoderConfig {
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly rmsNormEps: number;
}

/** To spread into a family's schema, with Llama's defaults; what a family has otherwise comes after. */
export const rotaryKeys = {
  vocab_size: z.int().positive().default(32000),
  hidden_size: z.int().positive().default(4096),
  intermediate_size: z.int().positive().default(11008),
  num_hidden_layers: z.int().positive().default(32),
  num_attention_heads: z.int().positive().default(32),
  num_key_value_heads: z.int().positive().nullish(),
  head_dim: z.int().positive().multipleOf(2).nullish(),
  hidden_act: z.enum(activationNames).default("silu"),
  max_position_embeddings: z.int().positive().default(2048),
  initializer_range: z.number().positive().default(0.02),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().optional(),
  rope_scaling: z.unknown().optional(),
  rope_parameters: z.unknown().optional(),
  attention_dropout: z.number().min(0).lt(1).default(0),
  bos_token_id: z.int().nonnegative().nullish().default(1),
  eos_token_id: tokenIds.default([2]),
  tie_word_embeddings: z.boolean().default(false),
};
export type RotaryKeys = z.output<z.ZodObject<typeof rotaryKeys>>;

/** The part of a config that follows from {@link rotaryKeys}. Throws PlinthError where they do not fit together. */
export function rotaryConfig(
  c: RotaryKeys & { readonly partial_rotary_factor?: number | undefined },
  options: { defaultTheta?: number; defaultShare?: number } = {},
): Omit<RotaryConfig, "modelType" | "inert"> {
  const numKvHeads = c.num_key_value_heads ?? c.num_attention_heads;
  const headDim = c.head_dim ?? c.hidden_size / c.num_attention_heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new PlinthError(
      `config.json: hidden_size ${c.hidden_size} over num_attention_heads ${c.num_attention_heads} gives a head width of ${headDim}, which is not even`,
      "change one of them, or set head_dim",
    );
  }
  expectMultiple({ ...c, num_key_value_heads: numKvHeads }, "num_attention_heads", "num_key_value_heads");
  const { theta, scaling, share } = parseRope(c, options);
  return {
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    hiddenSize: c.hidden_size,
    numLayers: c.num_hidden_layers,
    numHeads: c.num_attention_heads,
    numKvHeads,
    headDim,
    intermediateSize: c.intermediate_size,
    activation: c.hidden_act,
    rmsNormEps: c.rms_norm_eps,
    ropeTheta: theta,
    ropeScaling: scaling,
    ...(share === undefined ? {} : { rotaryShare: share }),
    attentionDropout: c.attention_dropout,
    initializerRange: c.initializer_range,
    tieWordEmbeddings: c.tie_word_embeddings,
    ...endTokens(c),
  };
}

/** The reverse of {@link rotaryConfig}. */
export function formatRotaryConfig(c: RotaryConfig) {
  return {
    ...c.inert,
    model_type: c.modelType,
    vocab_size: c.vocabSize,
    hidden_size: c.hiddenSize,
    intermediate_size: c.intermediateSize,
    num_hidden_layers: c.numLayers,
    num_attention_heads: c.numHeads,
    num_key_value_heads: c.numKvHeads,
    head_dim: c.headDim,
    hidden_act: c.activation,
    max_position_embeddings: c.contextLength,
    initializer_range: c.initializerRange,
    rms_norm_eps: c.rmsNormEps,
    ...formatRope({ theta: c.ropeTheta, scaling: c.ropeScaling }),
    attention_dropout: c.attentionDropout,
    ...formatEndTokens(c),
    tie_word_embeddings: c.tieWordEmbeddings,
  };
}

/** The keys that the dials of a new model say; the rest is the family's. */
export function rotaryDials(dials: ModelDials) {
  return {
    vocab_size: dials.vocabSize,
    max_position_embeddings: dials.contextLength,
    hidden_size: dials.hiddenSize,
    // Two thirds of 4 D, so that three matrices cost what two of width 4 D would (Shazeer 2020), to a multiple of 32.
    intermediate_size: dials.intermediateSize ?? Math.ceil((8 * dials.hiddenSize) / 3 / 32) * 32,
    num_hidden_layers: dials.numLayers,
    num_attention_heads: dials.numHeads,
    num_key_value_heads: dials.numKvHeads ?? dials.numHeads,
    head_dim: null,
    attention_dropout: dials.dropout,
    tie_word_embeddings: dials.tieWordEmbeddings,
    bos_token_id: dials.bosTokenId ?? null,
    eos_token_id: dials.eosTokenId ?? null,
  };
}
