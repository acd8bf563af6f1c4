/**
 * ModernBERT (Warner et al. 2024): an encoder with what decoders have learned since: rotary positions, norms before the sublayers, gated
 * feed-forward layers, no biases; of three layers two see a window only. Reference: `ModernBertForMaskedLM` and its siblings in
 * transformers.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { add, constant, mul, reshape, rope, slice, type Tensor } from "../engine/index.ts";
import {
  commonInertKeys,
  endTokens,
  expectAllKvHeads,
  expectMultiple,
  formatEndTokens,
  parseModelConfig,
  tokenIds,
} from "./config.ts";
import { defineModel, type ModelDials } from "./family.ts";
import { formatHead, headKeys, parseHead } from "./head-config.ts";
import { type LayerType, layerTypeKeys, parseLayerTypes } from "./layer-types.ts";
import {
  type ActivationName,
  activationNames,
  activations,
  bidirectionalAttention,
  checkInputs,
  checkpointed,
  type EncoderCall,
  type EncoderConfig,
  embedding,
  encoder,
  firstToken,
  type HeadPart,
  type Heads,
  headClasses,
  inModule,
  layerNorm,
  linear,
  type Module,
  maskedLmHead,
  meanToken,
  moduleAt,
  noHead,
  type ParameterList,
  positionsOf,
  ropeFrequencies,
  sequenceHead,
  spanHead,
  type Trunk,
  tokenHead,
  windowBias,
} from "./layers/index.ts";

export interface ModernBertConfig extends EncoderConfig {
  readonly modelType: "modernbert";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly normEps: number;
  readonly normBias: boolean;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  readonly layerTypes: readonly LayerType[];
  /** Tokens that a local layer sees before and after each, together. */
  readonly localAttention: number;
  readonly globalTheta: number;
  readonly localTheta: number;
  readonly embeddingDropout: number;
  readonly attentionDropout: number;
  readonly mlpDropout: number;
  readonly classifierDropout: number;
  readonly classifierPooling: "cls" | "mean";
  readonly classifierBias: boolean;
  readonly classifierActivation: ActivationName;
}

const rate = z.number().min(0).lt(1);
const rotary = z.strictObject({
  rope_type: z.literal("default").default("default"),
  rope_theta: z.number().positive().optional(),
});
const schema = z.object({
  ...headKeys,
  model_type: z.literal("modernbert"),
  vocab_size: z.int().positive().default(50368),
  hidden_size: z.int().positive().default(768),
  intermediate_size: z.int().positive().default(1152),
  num_hidden_layers: z.int().positive().default(22),
  num_attention_heads: z.int().positive().default(12),
  hidden_activation: z.enum(activationNames).default("gelu"),
  max_position_embeddings: z.int().positive().default(8192),
  initializer_range: z.number().positive().default(0.02),
  norm_eps: z.number().positive().default(1e-5),
  norm_bias: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  attention_dropout: rate.default(0),
  layer_types: layerTypeKeys.layer_types,
  global_attn_every_n_layers: z.int().positive().default(3),
  local_attention: z.int().positive().multipleOf(2).default(128),
  rope_parameters: z
    .strictObject({ full_attention: rotary.optional(), sliding_attention: rotary.optional() })
    .nullish(),
  global_rope_theta: z.number().positive().default(160_000),
  local_rope_theta: z.number().positive().nullish(),
  embedding_dropout: rate.default(0),
  mlp_bias: z.boolean().default(false),
  mlp_dropout: rate.default(0),
  decoder_bias: z.literal(true).default(true),
  classifier_pooling: z.enum(["cls", "mean"]).default("cls"),
  classifier_dropout: rate.default(0),
  classifier_bias: z.boolean().default(false),
  classifier_activation: z.enum(activationNames).default("gelu"),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
  tie_word_embeddings: z.literal(true).default(true),
});
/** How the reference runs, or what another key says as well. */
const inertKeys = [
  ...commonInertKeys,
  "cls_token_id",
  "sep_token_id",
  "initializer_cutoff_factor",
  "layer_norm_eps",
  "position_embedding_type",
  "deterministic_flash_attn",
  "reference_compile",
  "repad_logits_with_grad",
  "sparse_prediction",
  "sparse_pred_ignore_index",
];

function parseConfig(json: unknown): ModernBertConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  expectMultiple(c, "hidden_size", "num_attention_heads");
  const headDim = c.hidden_size / c.num_attention_heads;
  if (headDim % 2 !== 0) {
    throw new PlinthError(`config.json: a head width of ${headDim} is not even`, "change num_attention_heads");
  }
  const { layerTypes } = parseLayerTypes({ ...c, sliding_window: 1 }, (i) => i % c.global_attn_every_n_layers !== 0);
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    hiddenSize: c.hidden_size,
    numLayers: c.num_hidden_layers,
    numHeads: c.num_attention_heads,
    numKvHeads: c.num_attention_heads,
    headDim,
    intermediateSize: c.intermediate_size,
    activation: c.hidden_activation,
    normEps: c.norm_eps,
    normBias: c.norm_bias,
    attentionBias: c.attention_bias,
    mlpBias: c.mlp_bias,
    layerTypes,
    localAttention: c.local_attention,
    globalTheta: c.rope_parameters?.full_attention?.rope_theta ?? c.global_rope_theta,
    localTheta: c.rope_parameters?.sliding_attention?.rope_theta ?? c.local_rope_theta ?? 10_000,
    initializerRange: c.initializer_range,
    embeddingDropout: c.embedding_dropout,
    attentionDropout: c.attention_dropout,
    mlpDropout: c.mlp_dropout,
    classifierDropout: c.classifier_dropout,
    classifierPooling: c.classifier_pooling,
    classifierBias: c.classifier_bias,
    classifierActivation: c.classifier_activation,
    head: parseHead(c, headClasses(heads)),
    tieWordEmbeddings: true,
    ...endTokens(c),
    inert,
  });
}

const formatConfig = (c: ModernBertConfig): Record<string, unknown> => ({
  ...c.inert,
  ...formatHead(c, headClasses(heads)),
  model_type: "modernbert",
  vocab_size: c.vocabSize,
  hidden_size: c.hiddenSize,
  intermediate_size: c.intermediateSize,
  num_hidden_layers: c.numLayers,
  num_attention_heads: c.numHeads,
  hidden_activation: c.activation,
  max_position_embeddings: c.contextLength,
  initializer_range: c.initializerRange,
  norm_eps: c.normEps,
  norm_bias: c.normBias,
  attention_bias: c.attentionBias,
  attention_dropout: c.attentionDropout,
  layer_types: c.layerTypes,
  local_attention: c.localAttention,
  rope_parameters: {
    full_attention: { rope_type: "default", rope_theta: c.globalTheta },
    sliding_attention: { rope_type: "default", rope_theta: c.localTheta },
  },
  embedding_dropout: c.embeddingDropout,
  mlp_bias: c.mlpBias,
  mlp_dropout: c.mlpDropout,
  decoder_bias: true,
  classifier_pooling: c.classifierPooling,
  classifier_dropout: c.classifierDropout,
  classifier_bias: c.classifierBias,
  classifier_activation: c.classifierActivation,
  tie_word_embeddings: true,
  ...formatEndTokens(c),
});

function createConfig(dials: ModelDials): ModernBertConfig {
  expectAllKvHeads("modernbert", dials);
  const { dropout = 0, hiddenSize, contextLength } = dials;
  return parseConfig({
    model_type: "modernbert",
    vocab_size: dials.vocabSize,
    max_position_embeddings: contextLength,
    hidden_size: hiddenSize,
    // Three matrices of what two of width 4 D would cost, as the published sizes have about.
    intermediate_size: dials.intermediateSize ?? Math.ceil((8 * hiddenSize) / 3 / 32) * 32,
    num_hidden_layers: dials.numLayers,
    num_attention_heads: dials.numHeads,
    local_attention: Math.min(128, 2 * Math.ceil(contextLength / 8)),
    embedding_dropout: dropout,
    attention_dropout: dropout,
    mlp_dropout: dropout,
    classifier_dropout: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings ?? true,
    pad_token_id: null,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

const layerName = (i: number): string => `model.layers.${i}`;
/** The embeddings are normalised already. */
const hasAttentionNorm = (layer: number): boolean => layer > 0;

const trunk: Trunk<ModernBertConfig> = {
  parameters(list, c) {
    const { hiddenSize: D, intermediateSize: F } = c;
    const norm = (name: string): void => list.layerNorm(name, D, { bias: c.normBias });
    // What is added to the residual stream starts smaller, the deeper the model.
    const out = { kind: "normal", std: c.initializerRange / Math.sqrt(2 * c.numLayers) } as const;
    list.embedding("model.embeddings.tok_embeddings", c.vocabSize, D);
    norm("model.embeddings.norm");
    for (let i = 0; i < c.numLayers; i++) {
      const layer = layerName(i);
      if (hasAttentionNorm(i)) norm(`${layer}.attn_norm`);
      list.linear(`${layer}.attn.Wqkv`, D, 3 * D, { bias: c.attentionBias });
      list.linear(`${layer}.attn.Wo`, D, D, { bias: c.attentionBias, init: out });
      norm(`${layer}.mlp_norm`);
      list.linear(`${layer}.mlp.Wi`, D, 2 * F, { bias: c.mlpBias });
      list.linear(`${layer}.mlp.Wo`, F, D, { bias: c.mlpBias, init: out });
    }
    norm("model.final_norm");
  },

  forward(call) {
    const { params, inputs, c, dropout, context } = call;
    checkInputs(inputs, c, "max_position_embeddings");
    const embedded = inModule(params, "model.embeddings", (p) => {
      const words = inModule(p, "tok_embeddings", (p) => embedding(inputs.tokens, p));
      return inModule(p, "norm", (p) => layerNorm(words, p, { eps: c.normEps }));
    });
    const kinds = {
      full_attention: { invFreq: frequencies(c, c.globalTheta), bias: undefined },
      sliding_attention: {
        invFreq: frequencies(c, c.localTheta),
        bias: windowBias(inputs.tokens.shape[1] as number, c.localAttention / 2),
      },
    };
    const positions = positionsOf(inputs);
    let x = dropout.apply(embedded, c.embeddingDropout);
    for (let i = 0; i < c.numLayers; i++) {
      const see = { positions, ...kinds[c.layerTypes[i] as LayerType] };
      x = inModule(params, layerName(i), (p) =>
        checkpointed(context, x, (x) => block(x, p, { call, see, isNormed: !hasAttentionNorm(i) })),
      );
    }
    return inModule(params, "model.final_norm", (p) => layerNorm(x, p, { eps: c.normEps }));
  },
};

function frequencies(c: ModernBertConfig, theta: number): Tensor {
  return constant(ropeFrequencies({ rope_type: "default" }, theta, c.headDim), { shape: [c.headDim / 2] });
}

interface BlockContext {
  readonly call: EncoderCall<ModernBertConfig>;
  readonly see: { readonly positions: Tensor; readonly invFreq: Tensor; readonly bias: Tensor | undefined };
  /** The input has been normalised. */
  readonly isNormed: boolean;
}

/** x[B,T,D] -> x[B,T,D] */
function block(x: Tensor, p: Module, context: BlockContext): Tensor {
  const { c, dropout } = context.call;
  const norm = (x: Tensor, name: string): Tensor => inModule(p, name, (p) => layerNorm(x, p, { eps: c.normEps }));
  const normed = context.isNormed ? x : norm(x, "attn_norm");
  const h = add(
    x,
    inModule(p, "attn", (p) => attention(normed, p, context)),
  );
  const wide = inModule(p, "mlp.Wi", (p) => linear(norm(h, "mlp_norm"), p));
  const F = c.intermediateSize;
  const gated = mul(activations[c.activation](columns(wide, 0, F)), columns(wide, F, 2 * F));
  return add(
    h,
    inModule(p, "mlp.Wo", (p) => linear(dropout.apply(gated, c.mlpDropout), p)),
  );
}

/** x[B,T,D] -> [B,T,D] */
function attention(x: Tensor, p: Module, { call, see }: BlockContext): Tensor {
  const { c, inputs, dropout } = call;
  const [B, T, D] = x.shape as [number, number, number];
  const all = linear(x, moduleAt(p, "Wqkv"));
  const heads = (part: number): Tensor =>
    reshape(columns(all, part * D, (part + 1) * D), [B, T, c.numHeads, c.headDim]);
  const rotated = (x: Tensor): Tensor => rope(x, see.positions, see.invFreq);
  const y = bidirectionalAttention(rotated(heads(0)), rotated(heads(1)), heads(2), {
    scale: c.headDim ** -0.5,
    inputs,
    bias: see.bias,
    dropout: dropout.site(c.attentionDropout),
  });
  return dropout.apply(linear(reshape(y, [B, T, D]), moduleAt(p, "Wo")), c.attentionDropout);
}

/** Columns [from, to) of the last axis of x[B,T,...]. */
function columns(x: Tensor, from: number, to: number): Tensor {
  const [B, T] = x.shape as [number, number];
  return slice(x, { starts: [0, 0, from], limits: [B, T, to] });
}

/** [...,D] -> [...,D]: what stands in front of every head but none. */
const prediction: HeadPart<ModernBertConfig> = {
  parameters(list: ParameterList, c) {
    list.linear("head.dense", c.hiddenSize, c.hiddenSize, { bias: c.classifierBias });
    list.layerNorm("head.norm", c.hiddenSize, { bias: c.normBias });
  },
  forward(x, { params, c }) {
    const y = inModule(params, "head.dense", (p) => activations[c.classifierActivation](linear(x, p)));
    return inModule(params, "head.norm", (p) => layerNorm(y, p, { eps: c.normEps }));
  },
};
const pooled: HeadPart<ModernBertConfig> = {
  parameters: prediction.parameters,
  forward(x, call) {
    const isMean = call.c.classifierPooling === "mean";
    return prediction.forward(isMean ? meanToken(x, call.inputs) : firstToken(x), call);
  },
};
const dropout = (c: ModernBertConfig): number => c.classifierDropout;

const heads: Heads<ModernBertConfig> = {
  lm: maskedLmHead({
    architecture: "ModernBertForMaskedLM",
    transform: prediction,
    table: "model.embeddings.tok_embeddings",
    bias: "decoder",
  }),
  "sequence-classification": sequenceHead({
    architecture: "ModernBertForSequenceClassification",
    pool: pooled,
    path: "classifier",
    dropout,
  }),
  "token-classification": tokenHead({
    architecture: "ModernBertForTokenClassification",
    path: "classifier",
    dropout,
    transform: prediction,
  }),
  "question-answering": spanHead({
    architecture: "ModernBertForQuestionAnswering",
    path: "classifier",
    dropout,
    transform: prediction,
  }),
  none: noHead("ModernBertModel"),
};

/** ModernBERT (Warner et al. 2024), as `ModernBertForMaskedLM` or whatever of its heads config.json names. */
export const modernbert = defineModel<ModernBertConfig>({
  modelType: "modernbert",
  parseConfig,
  formatConfig,
  createConfig,
  ...encoder(trunk, heads),
  checkpoint: {
    optionalPrefix: "model.",
    tied: (c): Record<string, string> =>
      c.head.kind === "lm" ? { "decoder.weight": "model.embeddings.tok_embeddings.weight" } : {},
    inert: /^(model\.)?rotary_emb\.\w*inv_freq$/,
  },
});
