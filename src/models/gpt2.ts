/**
 * GPT-2 (Radford et al. 2019): learned positions, layer norm before each sublayer, Conv1D weights [in, out]. Reference:
 * `GPT2LMHeadModel` of transformers. Knows nothing of training, adapters, files or devices.
 */
import { z } from "zod";
import { reshape, split, type Tensor } from "../engine/index.ts";
import {
  commonInertKeys,
  endTokens,
  expectAllKvHeads,
  expectMultiple,
  formatEndTokens,
  parseModelConfig,
  tokenIds,
} from "./config.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  type ActivationName,
  activationNames,
  activations,
  causalAttention,
  conv1d,
  type GptBlock,
  type GptDecoderConfig,
  gptDecoder,
  gptLayer,
  type Module,
  moduleAt,
  ParameterList,
} from "./layers/index.ts";

export interface Gpt2Config extends GptDecoderConfig {
  readonly modelType: "gpt2";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly initializerRange: number;
  readonly attnDropout: number;
  /** Divide attention scores by sqrt(K). */
  readonly scaleAttnWeights: boolean;
  /** Divide them by the number of the layer too, counted from 1. */
  readonly scaleAttnByInverseLayerIdx: boolean;
}

const rate = z.number().min(0).lt(1);
const schema = z.object({
  model_type: z.literal("gpt2"),
  vocab_size: z.int().positive().default(50257),
  n_positions: z.int().positive().default(1024),
  n_embd: z.int().positive().default(768),
  n_layer: z.int().positive().default(12),
  n_head: z.int().positive().default(12),
  n_inner: z.int().positive().nullish(),
  activation_function: z.enum(activationNames).default("gelu_new"),
  resid_pdrop: rate.default(0.1),
  embd_pdrop: rate.default(0.1),
  attn_pdrop: rate.default(0.1),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  initializer_range: z.number().positive().default(0.02),
  scale_attn_weights: z.boolean().default(true),
  scale_attn_by_inverse_layer_idx: z.boolean().default(false),
  add_cross_attention: z.literal(false).default(false),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
  tie_word_embeddings: z.boolean().default(true),
});
/** `reorder_and_upcast_attn` only matters to half-precision arithmetic; `n_ctx` repeats `n_positions`. */
const inertKeys = [...commonInertKeys, "summary_*", "reorder_and_upcast_attn", "n_ctx"];

function parseConfig(json: unknown): Gpt2Config {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  expectMultiple(c, "n_embd", "n_head");
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.n_positions,
    hiddenSize: c.n_embd,
    numLayers: c.n_layer,
    numHeads: c.n_head,
    numKvHeads: c.n_head,
    headDim: c.n_embd / c.n_head,
    intermediateSize: c.n_inner ?? 4 * c.n_embd,
    activation: c.activation_function,
    layerNormEps: c.layer_norm_epsilon,
    initializerRange: c.initializer_range,
    residDropout: c.resid_pdrop,
    embdDropout: c.embd_pdrop,
    attnDropout: c.attn_pdrop,
    scaleAttnWeights: c.scale_attn_weights,
    scaleAttnByInverseLayerIdx: c.scale_attn_by_inverse_layer_idx,
    tieWordEmbeddings: c.tie_word_embeddings,
    ...endTokens(c),
    inert,
  });
}

function formatConfig(c: Gpt2Config): Record<string, unknown> {
  return {
    ...c.inert,
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
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
    scale_attn_by_inverse_layer_idx: c.scaleAttnByInverseLayerIdx,
    tie_word_embeddings: c.tieWordEmbeddings,
    ...formatEndTokens(c),
  };
}

function createConfig(dials: ModelDials): Gpt2Config {
  expectAllKvHeads("gpt2", dials);
  const { dropout = 0 } = dials;
  return parseConfig({
    model_type: "gpt2",
    vocab_size: dials.vocabSize,
    n_positions: dials.contextLength,
    n_embd: dials.hiddenSize,
    n_layer: dials.numLayers,
    n_head: dials.numHeads,
    n_inner: dials.intermediateSize,
    resid_pdrop: dropout,
    embd_pdrop: dropout,
    attn_pdrop: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings ?? true,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

function parameters(c: Gpt2Config): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F } = c;
  // Two additions to the residual stream per layer: their variance stays that of one (Radford et al. 2019, 2.3).
  const residual = { kind: "normal", std: c.initializerRange / Math.sqrt(2 * c.numLayers) } as const;
  const list = new ParameterList({ std: c.initializerRange });
  list.embedding("transformer.wte", c.vocabSize, D);
  list.embedding("transformer.wpe", c.contextLength, D);
  for (let i = 0; i < c.numLayers; i++) {
    const layer = gptLayer(i);
    list.layerNorm(`${layer}.ln_1`, D);
    list.conv1d(`${layer}.attn.c_attn`, D, 3 * D);
    list.conv1d(`${layer}.attn.c_proj`, D, D, { init: residual });
    list.layerNorm(`${layer}.ln_2`, D);
    list.conv1d(`${layer}.mlp.c_fc`, D, F);
    list.conv1d(`${layer}.mlp.c_proj`, F, D, { init: residual });
  }
  list.layerNorm("transformer.ln_f", D);
  if (!c.tieWordEmbeddings) list.linear("lm_head", D, c.vocabSize);
  return list.specs;
}

/**
 * GPT-2 (Radford et al. 2019), as `GPT2LMHeadModel`: learned positions, pre-norm blocks, `Conv1D` weights [in,out], head tied
 * to the embedding.
 */
export const gpt2 = defineModel<Gpt2Config>({
  modelType: "gpt2",
  architecture: "GPT2LMHeadModel",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  checkpoint: {
    optionalPrefix: "transformer.",
    tied: (c) => (c.tieWordEmbeddings ? { "lm_head.weight": "transformer.wte.weight" } : {}),
    inert: /^(transformer\.)?h\.\d+\.attn\.(masked_)?bias$/,
  },

  ...gptDecoder({ limitKey: "n_positions", attentionPath: "attn", attention, mlp }),
});

/** x[B,T,D] -> [B,T,D] */
function attention(
  x: Tensor,
  p: Module,
  { c, layer, inputs, dropout, cacheName, newCache }: GptBlock<Gpt2Config>,
): Tensor {
  const [B, T, D] = x.shape as [number, number, number];
  const qkv = conv1d(x, moduleAt(p, "c_attn"));
  const [q, k, v] = split(qkv, 3, { axis: 2 }).map((y) => reshape(y, [B, T, c.numHeads, c.headDim])) as Heads;
  const scale = (c.scaleAttnWeights ? c.headDim ** -0.5 : 1) / (c.scaleAttnByInverseLayerIdx ? layer + 1 : 1);
  const y = causalAttention(q, k, v, {
    scale,
    inputs,
    cacheName,
    newCache,
    dropout: dropout.site(c.attnDropout),
  });
  return conv1d(reshape(y, [B, T, D]), moduleAt(p, "c_proj"));
}
type Heads = [q: Tensor, k: Tensor, v: Tensor];

/** x[B,T,D] -> [B,T,D] */
function mlp(x: Tensor, p: Module, c: Gpt2Config): Tensor {
  return conv1d(activations[c.activation](conv1d(x, moduleAt(p, "c_fc"))), moduleAt(p, "c_proj"));
}
