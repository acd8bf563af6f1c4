/**
 * Qwen 3 (Yang et al. 2025): Llama with normalised queries and keys and a head width of its own, and where asked for a sliding
 * window in the upper layers. Reference: `Qwen3ForCausalLM` of transformers.
 */
import { z } from "zod";
import { commonInertKeys, parseModelConfig, tokenIds } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials } from "./family.ts";
import {
  formatUpperWindows,
  type LayerTypesConfig,
  parseUpperWindows,
  upperWindowKeys,
  windowOf,
} from "./layer-types.ts";
import { llamaDecoder } from "./llama-decoder.ts";
import { formatRotaryConfig, type RotaryConfig, rotaryConfig, rotaryDials, rotaryKeys } from "./rotary-config.ts";

export interface Qwen3Config extends RotaryConfig, LayerTypesConfig {
  readonly modelType: "qwen3";
  readonly attentionBias: boolean;
}

const schema = z.object({
  model_type: z.literal("qwen3"),
  ...rotaryKeys,
  vocab_size: rotaryKeys.vocab_size.default(151936),
  intermediate_size: rotaryKeys.intermediate_size.default(22016),
  num_key_value_heads: rotaryKeys.num_key_value_heads.default(32),
  head_dim: rotaryKeys.head_dim.default(128),
  max_position_embeddings: rotaryKeys.max_position_embeddings.default(32768),
  bos_token_id: rotaryKeys.bos_token_id.default(null),
  eos_token_id: tokenIds,
  attention_bias: z.boolean().default(false),
  ...upperWindowKeys,
});

function parseConfig(json: unknown): Qwen3Config {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  return Object.freeze({
    modelType: c.model_type,
    ...rotaryConfig(c),
    ...parseUpperWindows(c),
    attentionBias: c.attention_bias,
    inert,
  });
}

function formatConfig(c: Qwen3Config): Record<string, unknown> {
  return {
    ...formatRotaryConfig(c),
    ...formatUpperWindows(c),
    attention_bias: c.attentionBias,
  };
}

function createConfig(dials: ModelDials): Qwen3Config {
  return parseConfig({ model_type: "qwen3", ...rotaryDials(dials) });
}

export const qwen3 = defineModel<Qwen3Config>({
  modelType: "qwen3",
  ...decoderHeads(
    { lm: "Qwen3ForCausalLM", "sequence-classification": "Qwen3ForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  ...llamaDecoder<Qwen3Config>({
    attention: (c) => ({ bias: c.attentionBias, norms: "ones" }),
    window: windowOf,
  }),
});
