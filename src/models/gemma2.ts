/**
 * Gemma 2 (Gemma team 2024): every other layer sees a window only, scores and logits are capped, norms stand before and after each
 * sublayer and add 1 to their weights, embeddings are scaled by sqrt(D). Reference: `Gemma2ForCausalLM` of transformers.
 */
import { z } from "zod";
import { parseModelConfig } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials } from "./family.ts";
import { gemmaBlock, gemmaEmbeddings, gemmaNorm, gemmaParameters } from "./gemma-block.ts";
import {
  formatGemmaConfig,
  type GemmaConfig,
  gemmaConfig,
  gemmaDials,
  gemmaInertKeys,
  gemmaKeys,
} from "./gemma-config.ts";
import { rotaryDecoder } from "./layers/index.ts";

export interface Gemma2Config extends GemmaConfig {
  readonly modelType: "gemma2";
  /** Scores s become cap * tanh(s / cap). */
  readonly attnLogitSoftcapping?: number;
}

const cap = z.number().positive().nullish();
const schema = z.object({
  model_type: z.literal("gemma2"),
  ...gemmaKeys,
  vocab_size: gemmaKeys.vocab_size.default(256000),
  max_position_embeddings: gemmaKeys.max_position_embeddings.default(8192),
  final_logit_softcapping: cap.default(30),
  attn_logit_softcapping: cap.default(50),
});

function parseConfig(json: unknown): Gemma2Config {
  const { values: c, inert } = parseModelConfig(json, schema, gemmaInertKeys);
  return Object.freeze({
    modelType: c.model_type,
    ...gemmaConfig(c, (layer) => layer % 2 === 0),
    ...(typeof c.attn_logit_softcapping === "number" ? { attnLogitSoftcapping: c.attn_logit_softcapping } : {}),
    inert,
  });
}

function formatConfig(c: Gemma2Config): Record<string, unknown> {
  return {
    ...formatGemmaConfig(c),
    attn_logit_softcapping: c.attnLogitSoftcapping ?? null,
  };
}

/** As the published ones have it, the window is half of the context. */
function createConfig(dials: ModelDials): Gemma2Config {
  const window = Math.min(4096, Math.ceil(dials.contextLength / 2));
  return parseConfig({ model_type: "gemma2", ...gemmaDials(dials), sliding_window: window });
}

export const gemma2 = defineModel<Gemma2Config>({
  modelType: "gemma2",
  ...decoderHeads(
    { lm: "Gemma2ForCausalLM", "sequence-classification": "Gemma2ForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  floatKeys: ["final_logit_softcapping", "attn_logit_softcapping"],
  createConfig,
  parameters: (c) => gemmaParameters(c),
  ...rotaryDecoder<Gemma2Config>({
    block: (x, p, block) => gemmaBlock(x, p, block, { softCap: block.c.attnLogitSoftcapping }),
    norm: gemmaNorm,
    scaleEmbeddings: gemmaEmbeddings,
    softCap: (c) => c.finalLogitSoftcapping,
  }),
});
