/**
 * StarCoder, the first (Li et al. 2023), and SantaCoder: GPT-2 with multi-query attention, whose queries, keys and values
 * come of one product, and weights [out, in]. Reference: `GPTBigCodeForCausalLM` of transformers. Knows nothing of
 * training, adapters, files or devices.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { reshape, split, type Tensor } from "../engine/index.ts";
import { commonInertKeys, parseModelConfig } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import { formatGptConfig, type GptConfig, gptConfig, gptDials, gptKeys } from "./gpt-config.ts";
import {
  activations,
  causalAttention,
  type GptBlock,
  gptDecoder,
  gptDecoderParameters,
  linear,
  type Module,
  moduleAt,
} from "./layers/index.ts";

export interface GptBigCodeConfig extends GptConfig {
  readonly modelType: "gpt_bigcode";
}

const schema = z.object({
  model_type: z.literal("gpt_bigcode"),
  ...gptKeys,
  activation_function: gptKeys.activation_function.default("gelu_pytorch_tanh"),
  multi_query: z.boolean().default(true),
  num_key_value_heads: z.int().positive().optional(),
});
/** The last two rows steered how the first implementation ran; `*_in_fp32` only matter to half-precision arithmetic. */
const inertKeys = [
  ...commonInertKeys,
  ...["summary_*", "n_ctx", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"],
  ...["inference_runner", "validate_runner_input", "pre_allocate_kv_cache", "pad_key_length"],
  ...["max_sequence_length", "max_batch_size"],
];

function parseConfig(json: unknown): GptBigCodeConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  const numKvHeads = c.multi_query ? 1 : c.n_head;
  if (c.num_key_value_heads !== undefined && c.num_key_value_heads !== numKvHeads) {
    throw new PlinthError(
      `config.json: num_key_value_heads ${c.num_key_value_heads} contradicts multi_query ${c.multi_query}, which means ${numKvHeads}`,
      "correct config.json; it must be the one the weights came with",
    );
  }
  return Object.freeze({
    modelType: c.model_type,
    ...gptConfig(c),
    numKvHeads,
    inert,
  });
}

function formatConfig(c: GptBigCodeConfig): Record<string, unknown> {
  return {
    ...formatGptConfig(c),
    multi_query: c.numKvHeads === 1,
  };
}

function createConfig(dials: ModelDials): GptBigCodeConfig {
  const { numHeads, numKvHeads = 1 } = dials;
  if (numKvHeads !== 1 && numKvHeads !== numHeads) {
    throw new PlinthError(
      `gpt_bigcode: ${numKvHeads} key-value heads for ${numHeads} heads; gpt_bigcode has one for all, or one each`,
      "leave the number of key-value heads out, or choose the starcoder2 architecture",
    );
  }
  return parseConfig({ model_type: "gpt_bigcode", ...gptDials(dials), multi_query: numKvHeads === 1 });
}

function parameters(c: GptBigCodeConfig): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F, numKvHeads: G, headDim: K } = c;
  // Two additions to the residual stream per layer: their variance stays that of one (Radford et al. 2019, 2.3).
  const residual = { kind: "normal", std: c.initializerRange / Math.sqrt(2 * c.numLayers) } as const;
  return gptDecoderParameters(c, (list, layer) => {
    list.layerNorm(`${layer}.ln_1`, D);
    list.linear(`${layer}.attn.c_attn`, D, D + 2 * G * K, { bias: true });
    list.linear(`${layer}.attn.c_proj`, D, D, { bias: true, init: residual });
    list.layerNorm(`${layer}.ln_2`, D);
    list.linear(`${layer}.mlp.c_fc`, D, F, { bias: true });
    list.linear(`${layer}.mlp.c_proj`, F, D, { bias: true, init: residual });
  });
}

const decoder = gptDecoder({ limitKey: "n_positions", attentionPath: "attn", attention, mlp });

export const gptBigCode = defineModel<GptBigCodeConfig>({
  modelType: "gpt_bigcode",
  ...decoderHeads(
    { lm: "GPTBigCodeForCausalLM", "sequence-classification": "GPTBigCodeForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  parameters,
  ...decoder,
  // Some files have the mask once for all layers.
  checkpoint: { ...decoder.checkpoint, inert: /^(transformer\.)?(bias|h\.\d+\.attn\.(masked_)?bias)$/ },
});

/** x[B,T,D] -> [B,T,D] */
function attention(
  x: Tensor,
  p: Module,
  { c, inputs, dropout, cacheName, newCache }: GptBlock<GptBigCodeConfig>,
): Tensor {
  const [B, T, D] = x.shape as [number, number, number];
  const [q, k, v] = heads(linear(x, moduleAt(p, "c_attn")), c);
  const y = causalAttention(q, k, v, {
    scale: c.scaleAttnWeights ? c.headDim ** -0.5 : 1,
    inputs,
    cacheName,
    newCache,
    dropout: dropout.site(c.attnDropout),
  });
  return linear(reshape(y, [B, T, D]), moduleAt(p, "c_proj"));
}

/** qkv[B,T,...] -> q[B,T,H,K], k, v[B,T,G,K]: all queries, then the one key and value; else all three head by head. */
function heads(qkv: Tensor, { numHeads: H, numKvHeads: G, headDim: K }: GptBigCodeConfig): Heads {
  const [B, T] = qkv.shape as [number, number];
  if (G === H) return split(reshape(qkv, [B, T, H, 3 * K]), 3, { axis: 3 }) as Heads;
  const parts = split(qkv, [H * K, G * K, G * K], { axis: 2 });
  return parts.map((part, i) => reshape(part, [B, T, i === 0 ? H : G, K])) as Heads;
}
type Heads = [q: Tensor, k: Tensor, v: Tensor];

/** x[B,T,D] -> [B,T,D] */
function mlp(x: Tensor, p: Module, c: GptBigCodeConfig): Tensor {
  return linear(activations[c.activation](linear(x, moduleAt(p, "c_fc"))), moduleAt(p, "c_proj"));
}
