/**
 * Gemma 3, its language model (Gemma team 2025): of six layers five see a window only, with rotary positions of a base of their own;
 * queries and keys are normalised in place of Gemma 2's capped scores. Reference: `Gemma3ForCausalLM` of transformers.
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
import { windowOf } from "./layer-types.ts";
import { parseRope, type RotaryPositions, rotaryDecoder } from "./layers/index.ts";

export interface Gemma3TextConfig extends GemmaConfig {
  readonly modelType: "gemma3_text";
  /** Rotary positions of the layers that slide; `ropeTheta` and `ropeScaling` are those of the others. */
  readonly localRope: RotaryPositions;
}

const schema = z.object({
  model_type: z.literal("gemma3_text"),
  ...gemmaKeys,
  vocab_size: gemmaKeys.vocab_size.default(262208),
  max_position_embeddings: gemmaKeys.max_position_embeddings.default(131072),
  // The reference reads it and does not apply it.
  attn_logit_softcapping: z.null().optional(),
  rope_local_base_freq: z.number().positive().default(10000),
  rope_parameters: z
    .strictObject({ full_attention: z.unknown().optional(), sliding_attention: z.unknown().optional() })
    .nullish(),
  sliding_window_pattern: z.int().positive().default(6),
});

/** `_sliding_window_pattern` repeats what `layer_types` says. */
const inertKeys = [...gemmaInertKeys, "_sliding_window_pattern"];

/** Newer files nest `rope_parameters` by kind of layer, older ones have keys of their own for the layers that slide. */
function parseConfig(json: unknown): Gemma3TextConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  const { full_attention, sliding_attention } = c.rope_parameters ?? {};
  const isSliding = (layer: number): boolean => (layer + 1) % c.sliding_window_pattern !== 0;
  return Object.freeze({
    modelType: c.model_type,
    ...gemmaConfig({ ...c, rope_parameters: full_attention }, isSliding, { defaultTheta: 1e6 }),
    localRope: parseRope({
      ...c,
      rope_theta: c.rope_local_base_freq,
      rope_scaling: undefined,
      rope_parameters: sliding_attention,
    }),
    inert,
  });
}

function formatConfig(c: Gemma3TextConfig): Record<string, unknown> {
  const { rope_theta, rope_scaling, ...rest }: Record<string, unknown> = formatGemmaConfig(c);
  const nested = (theta: number, scaling: RotaryPositions["scaling"]) => ({ rope_theta: theta, ...scaling });
  return {
    ...rest,
    ...(c.localRope.scaling.rope_type === "default"
      ? { rope_theta, rope_scaling, rope_local_base_freq: c.localRope.theta }
      : {
          rope_parameters: {
            full_attention: nested(c.ropeTheta, c.ropeScaling),
            sliding_attention: nested(c.localRope.theta, c.localRope.scaling),
          },
        }),
  };
}

/** A window of a quarter of the context; the published ones have less of contexts that are longer. */
function createConfig(dials: ModelDials): Gemma3TextConfig {
  const window = Math.min(1024, Math.ceil(dials.contextLength / 4));
  return parseConfig({ model_type: "gemma3_text", ...gemmaDials(dials), sliding_window: window });
}

export const gemma3Text = defineModel<Gemma3TextConfig>({
  modelType: "gemma3_text",
  ...decoderHeads(
    { lm: "Gemma3ForCausalLM", "sequence-classification": "Gemma3TextForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  floatKeys: ["final_logit_softcapping"],
  createConfig,
  parameters: (c) => gemmaParameters(c, { attentionNorms: true }),
  ...rotaryDecoder<Gemma3TextConfig>({
    block: (x, p, block) => gemmaBlock(x, p, block, { normalize: (x, p) => gemmaNorm(x, p, block.c) }),
    norm: gemmaNorm,
    scaleEmbeddings: gemmaEmbeddings,
    rope: (c, layer) =>
      windowOf(c, layer) === undefined ? { theta: c.ropeTheta, scaling: c.ropeScaling } : c.localRope,
    softCap: (c) => c.finalLogitSoftcapping,
  }),
});
