/**
 * Llama (Touvron et al. 2023; Llama 3: Grattafiori et al. 2024): rotary positions, RMS norm before each sublayer,
 * grouped-query attention, SwiGLU. Reference: `LlamaForCausalLM` of transformers. Knows nothing of training, adapters,
 * files or devices.
 */
import { z } from "zod";
import { commonInertKeys, parseModelConfig } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials } from "./family.ts";
import { llamaDecoder } from "./llama-decoder.ts";
import { formatRotaryConfig, type RotaryConfig, rotaryConfig, rotaryDials, rotaryKeys } from "./rotary-config.ts";

export interface LlamaConfig extends RotaryConfig {
  readonly modelType: "llama";
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
}

const schema = z.object({
  model_type: z.literal("llama"),
  ...rotaryKeys,
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
});
/** `pretraining_tp` splits the products of the original training runs; the result is the same. */
const inertKeys = [...commonInertKeys, "pretraining_tp"];

function parseConfig(json: unknown): LlamaConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  return Object.freeze({
    modelType: c.model_type,
    ...rotaryConfig(c),
    attentionBias: c.attention_bias,
    mlpBias: c.mlp_bias,
    inert,
  });
}

function formatConfig(c: LlamaConfig): Record<string, unknown> {
  return {
    ...formatRotaryConfig(c),
    attention_bias: c.attentionBias,
    mlp_bias: c.mlpBias,
  };
}

function createConfig(dials: ModelDials): LlamaConfig {
  return parseConfig({ model_type: "llama", ...rotaryDials(dials) });
}

export const llama = defineModel<LlamaConfig>({
  modelType: "llama",
  ...decoderHeads(
    { lm: "LlamaForCausalLM", "sequence-classification": "LlamaForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  ...llamaDecoder<LlamaConfig>({
    attention: (c) => ({ bias: c.attentionBias }),
    mlpBias: (c) => c.mlpBias,
  }),
});
