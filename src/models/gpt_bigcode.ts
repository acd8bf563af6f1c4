/**
 * StarCoder, the first (Li et al. 2023), and SantaCoder: GPT-2 with multi-query attention, whose queries, keys and values
 * come of one product, and weights [out, in]. Reference: `GPTBigCodeForCausalLM` of transformers. Knows nothing of
 * training, adapters, files or devices.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { reshape, split, type Tensor } from "../engine/index.ts";
import { commonInertKeys, endTokens, expectMultiple, formatEndTokens, parseModelConfig, tokenIds } from "./config.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  type ActivationName,
  activationNames,
  activations,
  causalAttention,
  type GptBlock,
  type GptDecoderConfig,
  gptDecoder,
  gptLayer,
  linear,
  type Module,
  moduleAt,
  ParameterList,
} from "./layers/index.ts";

export interface GptBigCodeConfig extends GptDecoderConfig {
  readonly modelType: "gpt_bigcode";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly initializerRange: number;
  readonly attnDropout: number;
  /** Divide attention scores by sqrt(K). */
  readonly scaleAttnWeights: boolean;
}

const rate = z.number().min(0).lt(1);
const schema = z.object({
  model_type: z.literal("gpt_bigcode"),
  vocab_size: z.int().positive().default(50257),
  n_positions: z.int().positive().default(1024),
  n_embd: z.int().positive().default(768),
  n_layer: z.int().positive().default(12),
  n_head: z.int().positive().default(12),
  n_inner: z.int().positive().nullish(),
  activation_function: z.enum(activationNames).default("gelu_pytorch_tanh"),
  resid_pdrop: rate.default(0.1),
  embd_pdrop: rate.default(0.1),
  attn_pdrop: rate.default(0.1),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  initializer_range: z.number().positive().default(0.02),
  scale_attn_weights: z.boolean().default(true),
  multi_query: z.boolean().default(true),
  num_key_value_heads: z.int().positive().optional(),
  add_cross_attention: z.literal(false).default(false),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
  tie_word_embeddings: z.boolean().default(true),
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
  expectMultiple(c, "n_embd", "n_head");
  const numKvHeads = c.multi_query ? 1 : c.n_head;
  if (c.num_key_value_heads !== undefined && c.num_key_value_heads !== numKvHeads) {
    throw new PlinthError(
      `config.json: num_key_value_heads ${c.num_key_value_heads} contradicts multi_query ${c.multi_query}, which means ${numKvHeads}`,
      "correct config.json; it must be the one the weights came with",
    );
  }
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.n_positions,
    hiddenSize: c.n_embd,
    numLayers: c.n_layer,
    numHeads: c.n_head,
    numKvHeads,
    headDim: c.n_embd / c.n_head,
    intermediateSize: c.n_inner ?? 4 * c.n_embd,
    activation: c.activation_function,
    layerNormEps: c.layer_norm_epsilon,
    initializerRange: c.initializer_range,
    residDropout: c.resid_pdrop,
    embdDropout: c.embd_pdrop,
    attnDropout: c.attn_pdrop,
    scaleAttnWeights: c.scale_attn_weights,
    tieWordEmbeddings: c.tie_word_embeddings,
    ...endTokens(c),
    inert,
  });
}

function formatConfig(c: GptBigCodeConfig): Record<string, unknown> {
  return {
    ...c.inert,
    architectures: ["GPTBigCodeForCausalLM"],
    model_type: "gpt_bigcode",
    vocab_size: c.vocabSize,
    n_positions: c.contextLength,
    n_embd: c.hiddenSize,
    n_layer: c.numLayers,
    n_head: c.numHeads,
    n_inner: c.intermediateSize === 4 * c.hiddenSize ? null : c.intermediateSize,
    activation_function: c.activation,
    resid_pdrop: c.residDropout,
    embd_pdrop: c.embdDropout,
    attn_pdrop: c.attnDropout,
    layer_norm_epsilon: c.layerNormEps,
    initializer_range: c.initializerRange,
    scale_attn_weights: c.scaleAttnWeights,
    multi_query: c.numKvHeads === 1,
    tie_word_embeddings: c.tieWordEmbeddings,
    ...formatEndTokens(c),
  };
}

function createConfig(dials: ModelDials): GptBigCodeConfig {
  const { dropout = 0, numHeads, numKvHeads = 1 } = dials;
  if (numKvHeads !== 1 && numKvHeads !== numHeads) {
    throw new PlinthError(
      `gpt_bigcode: ${numKvHeads} key-value heads for ${numHeads} heads; gpt_bigcode has one for all, or one each`,
      "leave the number of key-value heads out, or choose the starcoder2 architecture",
    );
  }
  return parseConfig({
    model_type: "gpt_bigcode",
    vocab_size: dials.vocabSize,
    n_positions: dials.contextLength,
    n_embd: dials.hiddenSize,
    n_layer: dials.numLayers,
    n_head: numHeads,
    multi_query: numKvHeads === 1,
    n_inner: dials.intermediateSize,
    resid_pdrop: dropout,
    embd_pdrop: dropout,
    attn_pdrop: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings ?? true,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

function parameters(c: GptBigCodeConfig): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F, numKvHeads: G, headDim: K } = c;
  // Two additions to the residual stream per layer: their variance stays that of one (Radford et al. 2019, 2.3).
  const residual = { kind: "normal", std: c.initializerRange / Math.sqrt(2 * c.numLayers) } as const;
  const list = new ParameterList({ std: c.initializerRange });
  list.embedding("transformer.wte", c.vocabSize, D);
  list.embedding("transformer.wpe", c.contextLength, D);
  for (let i = 0; i < c.numLayers; i++) {
    const layer = gptLayer(i);
    list.layerNorm(`${layer}.ln_1`, D);
    list.linear(`${layer}.attn.c_attn`, D, D + 2 * G * K, { bias: true });
    list.linear(`${layer}.attn.c_proj`, D, D, { bias: true, init: residual });
    list.layerNorm(`${layer}.ln_2`, D);
    list.linear(`${layer}.mlp.c_fc`, D, F, { bias: true });
    list.linear(`${layer}.mlp.c_proj`, F, D, { bias: true, init: residual });
  }
  list.layerNorm("transformer.ln_f", D);
  if (!c.tieWordEmbeddings) list.linear("lm_head", D, c.vocabSize);
  return list.specs;
}

export const gptBigCode = defineModel<GptBigCodeConfig>({
  modelType: "gpt_bigcode",
  architecture: "GPTBigCodeForCausalLM",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  checkpoint: {
    optionalPrefix: "transformer.",
    tied: (c) => (c.tieWordEmbeddings ? { "lm_head.weight": "transformer.wte.weight" } : {}),
    inert: /^(transformer\.)?(bias|h\.\d+\.attn\.(masked_)?bias)$/,
  },

  ...gptDecoder({ limitKey: "n_positions", attentionPath: "attn", attention, mlp }),
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
