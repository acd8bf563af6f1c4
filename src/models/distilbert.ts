/**
 * DistilBERT (Sanh et al. 2019): BERT's blocks, half as many, without token types and pooler. Reference: `DistilBertForMaskedLM` and
 * its siblings in transformers.
 */
import { z } from "zod";
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
import {
  type ActivationName,
  activationNames,
  denseAndNorm,
  type EncoderConfig,
  encoder,
  type Heads,
  headClasses,
  learnedEmbeddings,
  maskedLmHead,
  noHead,
  pooler,
  postNormBlocks,
  sequenceHead,
  spanHead,
  type Trunk,
  tokenHead,
} from "./layers/index.ts";

export interface DistilBertConfig extends EncoderConfig {
  readonly modelType: "distilbert";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly layerNormEps: number;
  readonly typeVocabSize: 0;
  readonly hiddenDropout: number;
  readonly attnDropout: number;
  readonly sequenceDropout: number;
  readonly spanDropout: number;
}

const rate = z.number().min(0).lt(1);
const schema = z.object({
  ...headKeys,
  model_type: z.literal("distilbert"),
  vocab_size: z.int().positive().default(30522),
  max_position_embeddings: z.int().positive().default(512),
  dim: z.int().positive().default(768),
  n_layers: z.int().positive().default(6),
  n_heads: z.int().positive().default(12),
  hidden_dim: z.int().positive().default(3072),
  activation: z.enum(activationNames).default("gelu"),
  dropout: rate.default(0.1),
  attention_dropout: rate.default(0.1),
  seq_classif_dropout: rate.default(0.2),
  qa_dropout: rate.default(0.1),
  initializer_range: z.number().positive().default(0.02),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
  tie_word_embeddings: z.literal(true).default(true),
});
/** `sinusoidal_pos_embds`: how the stored positions once started. */
const inertKeys = [...commonInertKeys, "sinusoidal_pos_embds", "tie_weights_"];

function parseConfig(json: unknown): DistilBertConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  expectMultiple(c, "dim", "n_heads");
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    typeVocabSize: 0,
    hiddenSize: c.dim,
    numLayers: c.n_layers,
    numHeads: c.n_heads,
    numKvHeads: c.n_heads,
    headDim: c.dim / c.n_heads,
    intermediateSize: c.hidden_dim,
    activation: c.activation,
    // The reference has it in the code.
    layerNormEps: 1e-12,
    initializerRange: c.initializer_range,
    hiddenDropout: c.dropout,
    attnDropout: c.attention_dropout,
    sequenceDropout: c.seq_classif_dropout,
    spanDropout: c.qa_dropout,
    head: parseHead(c, headClasses(heads)),
    tieWordEmbeddings: true,
    ...endTokens(c),
    inert,
  });
}

const formatConfig = (c: DistilBertConfig): Record<string, unknown> => ({
  ...c.inert,
  ...formatHead(c, headClasses(heads)),
  model_type: "distilbert",
  vocab_size: c.vocabSize,
  max_position_embeddings: c.contextLength,
  dim: c.hiddenSize,
  n_layers: c.numLayers,
  n_heads: c.numHeads,
  hidden_dim: c.intermediateSize,
  activation: c.activation,
  dropout: c.hiddenDropout,
  attention_dropout: c.attnDropout,
  seq_classif_dropout: c.sequenceDropout,
  qa_dropout: c.spanDropout,
  initializer_range: c.initializerRange,
  tie_word_embeddings: true,
  ...formatEndTokens(c),
});

function createConfig(dials: ModelDials): DistilBertConfig {
  expectAllKvHeads("distilbert", dials);
  const { dropout = 0 } = dials;
  return parseConfig({
    model_type: "distilbert",
    vocab_size: dials.vocabSize,
    max_position_embeddings: dials.contextLength,
    dim: dials.hiddenSize,
    n_layers: dials.numLayers,
    n_heads: dials.numHeads,
    hidden_dim: dials.intermediateSize ?? 4 * dials.hiddenSize,
    dropout,
    attention_dropout: dropout,
    seq_classif_dropout: dropout,
    qa_dropout: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings ?? true,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

const embeddings = learnedEmbeddings<DistilBertConfig>("distilbert.embeddings");
const blocks = postNormBlocks<DistilBertConfig>(
  (i) => `distilbert.transformer.layer.${i}`,
  {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attentionOutput: "attention.out_lin",
    attentionNorm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    outputNorm: "output_layer_norm",
  },
  (c) => ({ attention: 0, output: c.hiddenDropout }),
);
const trunk: Trunk<DistilBertConfig> = {
  parameters(list, c) {
    embeddings.parameters(list, c);
    blocks.parameters(list, c);
  },
  forward: (call) => blocks.forward(embeddings.forward(call), call),
};

const heads: Heads<DistilBertConfig> = {
  lm: maskedLmHead({
    architecture: "DistilBertForMaskedLM",
    transform: denseAndNorm({
      dense: "vocab_transform",
      norm: "vocab_layer_norm",
      activation: (c) => c.activation,
      eps: (c) => c.layerNormEps,
    }),
    table: "distilbert.embeddings.word_embeddings",
    bias: "vocab_projector",
  }),
  "sequence-classification": sequenceHead({
    architecture: "DistilBertForSequenceClassification",
    pool: pooler("pre_classifier", "relu"),
    path: "classifier",
    dropout: (c) => c.sequenceDropout,
  }),
  "token-classification": tokenHead({
    architecture: "DistilBertForTokenClassification",
    path: "classifier",
    dropout: (c) => c.hiddenDropout,
  }),
  "question-answering": spanHead({
    architecture: "DistilBertForQuestionAnswering",
    dropout: (c) => c.spanDropout,
  }),
  none: noHead("DistilBertModel"),
};

/** DistilBERT (Sanh et al. 2019), as `DistilBertForMaskedLM` or whatever of its heads config.json names. */
export const distilbert = defineModel<DistilBertConfig>({
  modelType: "distilbert",
  parseConfig,
  formatConfig,
  createConfig,
  ...encoder(trunk, heads),
  checkpoint: {
    optionalPrefix: "distilbert.",
    tied: (c) =>
      c.head.kind === "lm"
        ? { "vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight" }
        : ({} as Record<string, string>),
    inert: /^(distilbert\.)?embeddings\.position_ids$/,
  },
});
