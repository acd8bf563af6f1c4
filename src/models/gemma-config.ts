/** What the configs of Gemma 2 and 3 have in common. */
import { z } from "zod";
import { commonInertKeys } from "./config.ts";
import type { ModelDials } from "./family.ts";
import { formatLayerTypes, type LayerTypesConfig, layerTypeKeys, parseLayerTypes } from "./layer-types.ts";
import { activationNames } from "./layers/index.ts";
import { formatRotaryConfig, type RotaryConfig, rotaryConfig, rotaryDials, rotaryKeys } from "./rotary-config.ts";

export interface GemmaConfig extends RotaryConfig, LayerTypesConfig {
  readonly attentionBias: boolean;
  /** Products of queries and keys are divided by its square root. */
  readonly queryPreAttnScalar: number;
  /** Logits y become cap * tanh(y / cap). */
  readonly finalLogitSoftcapping?: number;
}

const { hidden_act: _, ...shared } = rotaryKeys;

/** To spread into a family's schema, with the defaults that the two share. */
export const gemmaKeys = {
  ...shared,
  ...layerTypeKeys,
  hidden_size: rotaryKeys.hidden_size.default(2304),
  intermediate_size: rotaryKeys.intermediate_size.default(9216),
  num_hidden_layers: rotaryKeys.num_hidden_layers.default(26),
  num_attention_heads: rotaryKeys.num_attention_heads.default(8),
  num_key_value_heads: rotaryKeys.num_key_value_heads.default(4),
  head_dim: rotaryKeys.head_dim.default(256),
  hidden_activation: z.enum(activationNames).default("gelu_pytorch_tanh"),
  bos_token_id: rotaryKeys.bos_token_id.default(2),
  eos_token_id: rotaryKeys.eos_token_id.default([1]),
  tie_word_embeddings: rotaryKeys.tie_word_embeddings.default(true),
  attention_bias: z.boolean().default(false),
  query_pre_attn_scalar: z.int().positive().default(256),
  final_logit_softcapping: z.number().positive().nullish(),
  use_bidirectional_attention: z.literal(false).nullish(),
};

/** `hidden_act` is what files had before `hidden_activation`, and is not read where both are. */
export const gemmaInertKeys = [...commonInertKeys, "cache_implementation", "hidden_act", "sliding_window_size"];

/** The part of a config that follows from {@link gemmaKeys}; layers slide as `isSliding` says where the file does not. */
export function gemmaConfig(
  c: z.output<z.ZodObject<typeof gemmaKeys>>,
  isSliding: (layer: number) => boolean,
  options: { defaultTheta?: number } = {},
): Omit<GemmaConfig, "modelType" | "inert"> {
  const softcap = c.final_logit_softcapping;
  return {
    ...rotaryConfig({ ...c, hidden_act: c.hidden_activation }, options),
    ...parseLayerTypes(c, isSliding),
    attentionBias: c.attention_bias,
    queryPreAttnScalar: c.query_pre_attn_scalar,
    ...(typeof softcap === "number" ? { finalLogitSoftcapping: softcap } : {}),
  };
}

/** The reverse of {@link gemmaConfig}. */
export function formatGemmaConfig(c: GemmaConfig) {
  const { hidden_act, ...rest } = formatRotaryConfig(c);
  return {
    ...rest,
    hidden_activation: hidden_act,
    ...formatLayerTypes(c),
    attention_bias: c.attentionBias,
    query_pre_attn_scalar: c.queryPreAttnScalar,
    final_logit_softcapping: c.finalLogitSoftcapping ?? null,
  };
}

/** The keys that the dials of a new model say: scores are divided by sqrt(K). */
export function gemmaDials(dials: ModelDials) {
  return { ...rotaryDials(dials), query_pre_attn_scalar: dials.hiddenSize / dials.numHeads };
}
