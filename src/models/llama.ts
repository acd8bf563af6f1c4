/**
 * Llama (Touvron et al. 2023; Llama 3: Grattafiori et al. 2024): rotary positions, RMS norm before each sublayer,
 * grouped-query attention, SwiGLU. Reference: `LlamaForCausalLM` of transformers. Knows nothing of training, adapters,
 * files or devices.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { add, constant, mul, reshape, rope, type Tensor, type Tree } from "../engine/index.ts";
import { commonInertKeys, endTokens, expectMultiple, formatEndTokens, parseModelConfig, tokenIds } from "./config.ts";
import {
  defineModel,
  type ForwardContext,
  type ForwardInputs,
  type ModelConfig,
  type ModelDials,
  type ParameterSpec,
} from "./family.ts";
import {
  type ActivationName,
  activationNames,
  activations,
  causalAttention,
  causalHead,
  checkInputs,
  checkpointed,
  DropoutStreams,
  embedding,
  inModule,
  kvCacheShape,
  linear,
  type Module,
  moduleAt,
  ParameterList,
  parseRope,
  positionsOf,
  type RopeScaling,
  rmsNorm,
  ropeFrequencies,
  type TrunkOutputs,
} from "./layers/index.ts";

export interface LlamaConfig extends ModelConfig {
  readonly modelType: "llama";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  readonly attentionDropout: number;
  readonly initializerRange: number;
}

const schema = z.object({
  model_type: z.literal("llama"),
  vocab_size: z.int().positive().default(32000),
  hidden_size: z.int().positive().default(4096),
  intermediate_size: z.int().positive().default(11008),
  num_hidden_layers: z.int().positive().default(32),
  num_attention_heads: z.int().positive().default(32),
  num_key_value_heads: z.int().positive().nullish(),
  head_dim: z.int().positive().multipleOf(2).nullish(),
  hidden_act: z.enum(activationNames).default("silu"),
  max_position_embeddings: z.int().positive().default(2048),
  initializer_range: z.number().positive().default(0.02),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().optional(),
  rope_scaling: z.unknown().optional(),
  rope_parameters: z.unknown().optional(),
  attention_bias: z.boolean().default(false),
  attention_dropout: z.number().min(0).lt(1).default(0),
  mlp_bias: z.boolean().default(false),
  bos_token_id: z.int().nonnegative().nullish().default(1),
  eos_token_id: tokenIds.default([2]),
  tie_word_embeddings: z.boolean().default(false),
});
/** `pretraining_tp` splits the products of the original training runs; the result is the same. */
const inertKeys = [...commonInertKeys, "pretraining_tp"];

function parseConfig(json: unknown): LlamaConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  const numKvHeads = c.num_key_value_heads ?? c.num_attention_heads;
  const headDim = c.head_dim ?? c.hidden_size / c.num_attention_heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new PlinthError(
      `config.json: hidden_size ${c.hidden_size} over num_attention_heads ${c.num_attention_heads} gives a head width of ${headDim}, which is not even`,
      "change one of them, or set head_dim",
    );
  }
  expectMultiple({ ...c, num_key_value_heads: numKvHeads }, "num_attention_heads", "num_key_value_heads");
  const { theta, scaling } = parseRope(c);
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    hiddenSize: c.hidden_size,
    numLayers: c.num_hidden_layers,
    numHeads: c.num_attention_heads,
    numKvHeads,
    headDim,
    intermediateSize: c.intermediate_size,
    activation: c.hidden_act,
    rmsNormEps: c.rms_norm_eps,
    ropeTheta: theta,
    ropeScaling: scaling,
    attentionBias: c.attention_bias,
    mlpBias: c.mlp_bias,
    attentionDropout: c.attention_dropout,
    initializerRange: c.initializer_range,
    tieWordEmbeddings: c.tie_word_embeddings,
    ...endTokens(c),
    inert,
  });
}

function formatConfig(c: LlamaConfig): Record<string, unknown> {
  return {
    ...c.inert,
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: c.vocabSize,
    hidden_size: c.hiddenSize,
    intermediate_size: c.intermediateSize,
    num_hidden_layers: c.numLayers,
    num_attention_heads: c.numHeads,
    num_key_value_heads: c.numKvHeads,
    head_dim: c.headDim,
    hidden_act: c.activation,
    max_position_embeddings: c.contextLength,
    initializer_range: c.initializerRange,
    rms_norm_eps: c.rmsNormEps,
    rope_theta: c.ropeTheta,
    rope_scaling: c.ropeScaling.rope_type === "default" ? null : c.ropeScaling,
    attention_bias: c.attentionBias,
    attention_dropout: c.attentionDropout,
    mlp_bias: c.mlpBias,
    ...formatEndTokens(c),
    tie_word_embeddings: c.tieWordEmbeddings,
  };
}

function createConfig(dials: ModelDials): LlamaConfig {
  // Two thirds of 4 D, so that three matrices cost what two of width 4 D would (Shazeer 2020), to a multiple of 32.
  const intermediate = dials.intermediateSize ?? Math.ceil((8 * dials.hiddenSize) / 3 / 32) * 32;
  return parseConfig({
    model_type: "llama",
    vocab_size: dials.vocabSize,
    max_position_embeddings: dials.contextLength,
    hidden_size: dials.hiddenSize,
    intermediate_size: intermediate,
    num_hidden_layers: dials.numLayers,
    num_attention_heads: dials.numHeads,
    num_key_value_heads: dials.numKvHeads,
    attention_dropout: dials.dropout,
    tie_word_embeddings: dials.tieWordEmbeddings,
    bos_token_id: dials.bosTokenId ?? null,
    eos_token_id: dials.eosTokenId ?? null,
  });
}

const layerName = (i: number): string => `model.layers.${i}`;

function parameters(c: LlamaConfig): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F } = c;
  const list = new ParameterList({ std: c.initializerRange });
  const attention = { bias: c.attentionBias };
  const mlp = { bias: c.mlpBias };
  list.embedding("model.embed_tokens", c.vocabSize, D);
  for (let i = 0; i < c.numLayers; i++) {
    const layer = layerName(i);
    list.rmsNorm(`${layer}.input_layernorm`, D);
    list.linear(`${layer}.self_attn.q_proj`, D, c.numHeads * c.headDim, attention);
    list.linear(`${layer}.self_attn.k_proj`, D, c.numKvHeads * c.headDim, attention);
    list.linear(`${layer}.self_attn.v_proj`, D, c.numKvHeads * c.headDim, attention);
    list.linear(`${layer}.self_attn.o_proj`, c.numHeads * c.headDim, D, attention);
    list.rmsNorm(`${layer}.post_attention_layernorm`, D);
    list.linear(`${layer}.mlp.gate_proj`, D, F, mlp);
    list.linear(`${layer}.mlp.up_proj`, D, F, mlp);
    list.linear(`${layer}.mlp.down_proj`, F, D, mlp);
  }
  list.rmsNorm("model.norm", D);
  if (!c.tieWordEmbeddings) list.linear("lm_head", D, c.vocabSize);
  return list.specs;
}

/**
 * Llama 1 to 3 (Touvron et al. 2023; Llama team 2024), as `LlamaForCausalLM`: rotary positions with Llama 3's scaling,
 * grouped-query attention, RMSNorm, SwiGLU, head tied or not.
 */
export const llama = defineModel<LlamaConfig>({
  modelType: "llama",
  architecture: "LlamaForCausalLM",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  checkpoint: {
    optionalPrefix: "model.",
    tied: (c) => (c.tieWordEmbeddings ? { "lm_head.weight": "model.embed_tokens.weight" } : {}),
    inert: /^(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$/,
  },

  cacheShape: (c, batch, length) => kvCacheShape(c, [batch, length], (layer) => `${layerName(layer)}.self_attn`),
  ...causalHead({ embeddings: "model.embed_tokens", trunk }),
});

/** tokens[B,T] -> x[B,T,D]: all of the model but the head. */
function trunk(
  params: Tree<Tensor>,
  inputs: ForwardInputs,
  c: LlamaConfig,
  context: ForwardContext | undefined,
): TrunkOutputs {
  checkInputs(inputs, c, "max_position_embeddings");
  const shared = {
    c,
    inputs,
    positions: positionsOf(inputs),
    invFreq: constant(ropeFrequencies(c.ropeScaling, c.ropeTheta, c.headDim), { shape: [c.headDim / 2] }),
    dropout: new DropoutStreams(context),
    newCache: {} as Record<string, Tensor>,
  };

  let x = inModule(params, "model.embed_tokens", (p) => embedding(inputs.tokens, p));
  for (let layer = 0; layer < c.numLayers; layer++) {
    x = inModule(params, layerName(layer), (p) => checkpointed(context, x, (x) => block(x, p, { ...shared, layer })));
  }
  x = inModule(params, "model.norm", (p) => rmsNorm(x, p, { eps: c.rmsNormEps }));
  return { x, newCache: shared.newCache };
}

interface BlockContext {
  readonly c: LlamaConfig;
  readonly layer: number;
  readonly inputs: ForwardInputs;
  /** int32[B,T] */
  readonly positions: Tensor;
  /** [K/2] */
  readonly invFreq: Tensor;
  readonly dropout: DropoutStreams;
  readonly newCache: Record<string, Tensor>;
}

/** x[B,T,D] -> x[B,T,D] */
function block(x: Tensor, p: Module, context: BlockContext): Tensor {
  const { c } = context;
  const normed = inModule(p, "input_layernorm", (p) => rmsNorm(x, p, { eps: c.rmsNormEps }));
  const h = add(
    x,
    inModule(p, "self_attn", (p) => attention(normed, p, context)),
  );
  const normedAgain = inModule(p, "post_attention_layernorm", (p) => rmsNorm(h, p, { eps: c.rmsNormEps }));
  return add(
    h,
    inModule(p, "mlp", (p) => mlp(normedAgain, p, c)),
  );
}

/** x[B,T,D] -> [B,T,D] */
function attention(x: Tensor, p: Module, context: BlockContext): Tensor {
  const { c, layer, inputs, positions, invFreq, dropout, newCache } = context;
  const [B, T] = x.shape as [number, number];
  const q = reshape(linear(x, moduleAt(p, "q_proj")), [B, T, c.numHeads, c.headDim]);
  const k = reshape(linear(x, moduleAt(p, "k_proj")), [B, T, c.numKvHeads, c.headDim]);
  const v = reshape(linear(x, moduleAt(p, "v_proj")), [B, T, c.numKvHeads, c.headDim]);
  const y = causalAttention(rope(q, positions, invFreq), rope(k, positions, invFreq), v, {
    scale: c.headDim ** -0.5,
    inputs,
    cacheName: `${layerName(layer)}.self_attn`,
    newCache,
    dropout: dropout.site(c.attentionDropout),
  });
  return linear(reshape(y, [B, T, c.numHeads * c.headDim]), moduleAt(p, "o_proj"));
}

/** x[B,T,D] -> [B,T,D]: SwiGLU (Shazeer 2020). */
function mlp(x: Tensor, p: Module, c: LlamaConfig): Tensor {
  const gate = activations[c.activation](linear(x, moduleAt(p, "gate_proj")));
  return linear(mul(gate, linear(x, moduleAt(p, "up_proj"))), moduleAt(p, "down_proj"));
}
