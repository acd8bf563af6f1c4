/**
 * Mistral (Jiang et al. 2023): Llama with fewer key-value heads and a sliding window, so that a layer sees the latest
 * tokens only and what is further back by way of the layers below. The cache holds all tokens nevertheless. Reference:
 * `MistralForCausalLM` of transformers.
 */
import { z } from "zod";
import { commonInertKeys, parseModelConfig } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials } from "./family.ts";
import { llamaDecoder } from "./llama-decoder.ts";
import { formatRotaryConfig, type RotaryConfig, rotaryConfig, rotaryDials, rotaryKeys } from "./rotary-config.ts";

export interface MistralConfig extends RotaryConfig {
  readonly modelType: "mistral";
  /** How many of the latest tokens a token sees, itself included; all when absent. */
  readonly slidingWindow?: number;
}

const schema = z.object({
  model_type: z.literal("mistral"),
  ...rotaryKeys,
  intermediate_size: rotaryKeys.intermediate_size.default(14336),
  num_key_value_heads: rotaryKeys.num_key_value_heads.default(8),
  max_position_embeddings: rotaryKeys.max_position_embeddings.default(131072),
  sliding_window: z.int().positive().nullish().default(4096),
});

function parseConfig(json: unknown): MistralConfig {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  return Object.freeze({
    modelType: c.model_type,
    ...rotaryConfig(c),
    ...(typeof c.sliding_window === "number" ? { slidingWindow: c.sliding_window } : {}),
    inert,
  });
}

function formatConfig(c: MistralConfig): Record<string, unknown> {
  return {
    ...formatRotaryConfig(c),
    sliding_window: c.slidingWindow ?? null,
  };
}

/** As the first of them had it, the window is half of the context. */
function createConfig(dials: ModelDials): MistralConfig {
  const window = Math.min(4096, Math.ceil(dials.contextLength / 2));
  return parseConfig({ model_type: "mistral", ...rotaryDials(dials), sliding_window: window });
}

export const mistral = defineModel<MistralConfig>({
  modelType: "mistral",
  ...decoderHeads(
    { lm: "MistralForCausalLM", "sequence-classification": "MistralForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  ...llamaDecoder<MistralConfig>({ window: (c) => c.slidingWindow }),
});
