/**
 * Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases of queries, keys and values, and where asked for a sliding window in
 * the upper layers. Reference: `Qwen2ForCausalLM` of transformers.
 */
import { z } from "zod";
import { add, type Tensor } from "../engine/index.ts";
import { commonInertKeys, parseModelConfig, tokenIds } from "./config.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  formatUpperWindows,
  type LayerTypesConfig,
  parseUpperWindows,
  upperWindowKeys,
  windowOf,
} from "./layer-types.ts";
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
    architectures: ["Qwen2ForCausalLM"],
    ...formatUpperWindows(c),
  };
}

function createConfig(dials: ModelDials): Qwen2Config {
  return parseConfig({ model_type: "qwen2", ...rotaryDials(dials) });
}

function parameters(c: Qwen2Config): Record<string, ParameterSpec> {
  return rotaryDecoderParameters(c, (list, layer) => {
    list.rmsNorm(`${layer}.input_layernorm`, c.hiddenSize);
    rotaryAttentionParameters(list, `${layer}.self_attn`, c, { bias: true, outputBias: false });
    list.rmsNorm(`${layer}.post_attention_layernorm`, c.hiddenSize);
    gatedMlpParameters(list, `${layer}.mlp`, c);
  });
}

export const qwen2 = defineModel<Qwen2Config>({
  modelType: "qwen2",
  architecture: "Qwen2ForCausalLM",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  ...rotaryDecoder<Qwen2Config>({ block, norm: (x, p, c) => rmsNorm(x, p, { eps: c.rmsNormEps }) }),
});

/** x[B,T,D] -> x[B,T,D] */
function block(x: Tensor, p: Module, { c, layer, attention }: RotaryBlock<Qwen2Config>): Tensor {
  const norm = (x: Tensor, name: string): Tensor => inModule(p, name, (p) => rmsNorm(x, p, { eps: c.rmsNormEps }));
  const normed = norm(x, "input_layernorm");
  const attended = inModule(p, "self_attn", (p) =>
    rotaryAttention(normed, p, { ...attention, window: windowOf(c, layer) }),
  );
  const h = add(x, attended);
  const normedAgain = norm(h, "post_attention_layernorm");
  const fed = inModule(p, "mlp", (p) => gatedMlp(normedAgain, p, c.activation));
  return add(h, fed);
}
