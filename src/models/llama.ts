/**
 * Llama (Touvron et al. 2023; Llama 3: Grattafiori et al. 2024): rotary positions, RMS norm before each sublayer,
 * grouped-query attention, SwiGLU. Reference: `LlamaForCausalLM` of transformers. Knows nothing of training, adapters,
 * files or devices.
 */
import { z } from "zod";
import { add, type Tensor } from "../engine/index.ts";
import { commonInertKeys, parseModelConfig } from "./config.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
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
    architectures: ["LlamaForCausalLM"],
    attention_bias: c.attentionBias,
    mlp_bias: c.mlpBias,
  };
}

function createConfig(dials: ModelDials): LlamaConfig {
  return parseConfig({ model_type: "llama", ...rotaryDials(dials) });
}

function parameters(c: LlamaConfig): Record<string, ParameterSpec> {
  return rotaryDecoderParameters(c, (list, layer) => {
    list.rmsNorm(`${layer}.input_layernorm`, c.hiddenSize);
    rotaryAttentionParameters(list, `${layer}.self_attn`, c, { bias: c.attentionBias });
    list.rmsNorm(`${layer}.post_attention_layernorm`, c.hiddenSize);
    gatedMlpParameters(list, `${layer}.mlp`, c, { bias: c.mlpBias });
  });
}

export const llama = defineModel<LlamaConfig>({
  modelType: "llama",
  architecture: "LlamaForCausalLM",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  ...rotaryDecoder<LlamaConfig>({ block, norm: (x, p, c) => rmsNorm(x, p, { eps: c.rmsNormEps }) }),
});

/** x[B,T,D] -> x[B,T,D] */
function block(x: Tensor, p: Module, { c, attention }: RotaryBlock<LlamaConfig>): Tensor {
  const norm = (x: Tensor, name: string): Tensor => inModule(p, name, (p) => rmsNorm(x, p, { eps: c.rmsNormEps }));
  const normed = norm(x, "input_layernorm");
  const attended = inModule(p, "self_attn", (p) => rotaryAttention(normed, p, attention));
  const h = add(x, attended);
  const normedAgain = norm(h, "post_attention_layernorm");
  const fed = inModule(p, "mlp", (p) => gatedMlp(normedAgain, p, c.activation));
  return add(h, fed);
}
