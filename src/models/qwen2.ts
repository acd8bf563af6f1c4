/**
 * Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases of queries, keys and values, and where asked for a sliding window in
 * the upper layers. Reference: `Qwen2ForCausalLM` of transformers.
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

export interface Qwen2Config extends RotaryConfig, LayerTypesConfig {
  readonly modelType: "qwen2";
}

const schema = z.object({
  model_type: z.literal("qwen2"),
  ...rotaryKeys,
  vocab_size: rotaryKeys.vocab_size.default(151936),
  intermediate_size: rotaryKeys.intermediate_size.default(22016),
  num_key_value_heads: rotaryKeys.num_key_value_heads.default(32),
  max_position_embeddings: rotaryKeys.max_position_embeddings.default(32768),
  bos_token_id: rotaryKeys.bos_token_id.default(null),
  eos_token_id: tokenIds,
  ...upperWindowKeys,
  // Positions in two dimensions, of the vision model; text models say they have none.
  use_mrope: z.literal(false).optional(),
});

function parseConfig(json: unknown): Qwen2Config {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  return Object.freeze({
    modelType: c.model_type,
    ...rotaryConfig(c),
    ...parseUpperWindows(c),
    inert,
  });
}

function formatConfig(c: Qwen2Config): Record<string, unknown> {
  return {
    ...formatRotaryConfig(c),
    ...formatUpperWindows(c),
  };
}

function createConfig(dials: ModelDials): Qwen2Config {
  return parseConfig({ model_type: "qwen2", ...rotaryDials(dials) });
}

export const qwen2 = defineModel<Qwen2Config>({
  modelType: "qwen2",
  ...decoderHeads(
    { lm: "Qwen2ForCausalLM", "sequence-classification": "Qwen2ForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  ...llamaDecoder<Qwen2Config>({ attention: () => ({ bias: true, outputBias: false }), window: windowOf }),
});
