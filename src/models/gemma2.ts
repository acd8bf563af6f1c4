/**
 * Gemma 2 (Gemma team 2024): every other layer sees a window only, scores and logits are capped, norms stand before and after each
 * sublayer and add 1 to their weights, embeddings are scaled by sqrt(D). Reference: `Gemma2ForCausalLM` of transformers.
 */
import { z } from "zod";
import { add, mul, type Tensor } from "../engine/index.ts";
import { parseModelConfig } from "./config.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  formatGemmaConfig,
  type GemmaConfig,
  gemmaConfig,
  gemmaDials,
  gemmaInertKeys,
  gemmaKeys,
} from "./gemma-config.ts";
import { windowOf } from "./layer-types.ts";
import {
  gatedMlp,
  gatedMlpParameters,
  inModule,
  type Module,
  type RotaryBlock,
  rmsNorm,
  rotaryAttention,
  rotaryAttentionParameters,
  rotaryDecoder,
  rotaryDecoderParameters,
} from "./layers/index.ts";

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
    architectures: ["Gemma2ForCausalLM"],
    attn_logit_softcapping: c.attnLogitSoftcapping ?? null,
  };
}

/** As the published ones have it, the window is half of the context. */
function createConfig(dials: ModelDials): Gemma2Config {
  const window = Math.min(4096, Math.ceil(dials.contextLength / 2));
  return parseConfig({ model_type: "gemma2", ...gemmaDials(dials), sliding_window: window });
}

function parameters(c: Gemma2Config): Record<string, ParameterSpec> {
  const start = { start: "zeros" } as const;
  return rotaryDecoderParameters(
    c,
    (list, layer) => {
      list.rmsNorm(`${layer}.input_layernorm`, c.hiddenSize, start);
      rotaryAttentionParameters(list, `${layer}.self_attn`, c, { bias: c.attentionBias });
      list.rmsNorm(`${layer}.post_attention_layernorm`, c.hiddenSize, start);
      list.rmsNorm(`${layer}.pre_feedforward_layernorm`, c.hiddenSize, start);
      gatedMlpParameters(list, `${layer}.mlp`, c);
      list.rmsNorm(`${layer}.post_feedforward_layernorm`, c.hiddenSize, start);
    },
    { norms: "zeros" },
  );
}

export const gemma2 = defineModel<Gemma2Config>({
  modelType: "gemma2",
  architecture: "Gemma2ForCausalLM",
  parseConfig,
  formatConfig,
  floatKeys: ["final_logit_softcapping", "attn_logit_softcapping"],
  createConfig,
  parameters,
  ...rotaryDecoder<Gemma2Config>({
    block,
    norm,
    scaleEmbeddings: (x, c) => mul(x, Math.sqrt(c.hiddenSize)),
    softCap: (c) => c.finalLogitSoftcapping,
  }),
});

function norm(x: Tensor, p: Module, c: Gemma2Config): Tensor {
  return rmsNorm(x, p, { eps: c.rmsNormEps, offset: 1 });
}

/** x[B,T,D] -> x[B,T,D] */
function block(x: Tensor, p: Module, { c, layer, attention }: RotaryBlock<Gemma2Config>): Tensor {
  const normed = inModule(p, "input_layernorm", (p) => norm(x, p, c));
  const attended = inModule(p, "self_attn", (p) =>
    rotaryAttention(normed, p, {
      ...attention,
      scale: c.queryPreAttnScalar ** -0.5,
      window: windowOf(c, layer),
      softCap: c.attnLogitSoftcapping,
    }),
  );
  const h = add(
    x,
    inModule(p, "post_attention_layernorm", (p) => norm(attended, p, c)),
  );
  const normedAgain = inModule(p, "pre_feedforward_layernorm", (p) => norm(h, p, c));
  const fed = inModule(p, "mlp", (p) => gatedMlp(normedAgain, p, c.activation));
  return add(
    h,
    inModule(p, "post_feedforward_layernorm", (p) => norm(fed, p, c)),
  );
}
