/**
 * BERT (Devlin et al. 2019): a bidirectional encoder, learned positions, token types, layer norm after each sublayer, and the
 * heads of its pretraining and of the tasks it is fine-tuned for. Reference: `BertForMaskedLM`, `BertForPreTraining` and their
 * siblings in transformers. Knows nothing of masking, training, adapters, files or devices.
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
  pairHead,
  pooler,
  postNormBlocks,
  sequenceHead,
  spanHead,
  type Trunk,
  tokenHead,
} from "./layers/index.ts";

export interface BertConfig extends EncoderConfig {
  readonly modelType: "bert";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly typeVocabSize: number;
  readonly layerNormEps: number;
  readonly hiddenDropout: number;
  readonly attnDropout: number;
  /** In front of a classifier. */
  readonly classifierDropout: number;
}

const rate = z.number().min(0).lt(1);
const schema = z.object({
  model_type: z.literal("bert"),
  ...headKeys,
  vocab_size: z.int().positive().default(30522),
  max_position_embeddings: z.int().positive().default(512),
  type_vocab_size: z.int().positive().default(2),
  hidden_size: z.int().positive().default(768),
  num_hidden_layers: z.int().positive().default(12),
  num_attention_heads: z.int().positive().default(12),
  intermediate_size: z.int().positive().default(3072),
  hidden_act: z.enum(activationNames).default("gelu"),
  hidden_dropout_prob: rate.default(0.1),
  attention_probs_dropout_prob: rate.default(0.1),
  classifier_dropout: rate.nullish(),
  layer_norm_eps: z.number().positive().default(1e-12),
  initializer_range: z.number().positive().default(0.02),
  position_embedding_type: z.literal("absolute").default("absolute"),
  is_decoder: z.literal(false).default(false),
  add_cross_attention: z.literal(false).default(false),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
  /** The reference ties the head's bias only together with its weight, and no published checkpoint does neither. */
  tie_word_embeddings: z.literal(true).default(true),
});

function parseConfig(json: unknown): BertConfig {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  expectMultiple(c, "hidden_size", "num_attention_heads");
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    typeVocabSize: c.type_vocab_size,
    hiddenSize: c.hidden_size,
    numLayers: c.num_hidden_layers,
    numHeads: c.num_attention_heads,
    numKvHeads: c.num_attention_heads,
    headDim: c.hidden_size / c.num_attention_heads,
    intermediateSize: c.intermediate_size,
    activation: c.hidden_act,
    layerNormEps: c.layer_norm_eps,
    initializerRange: c.initializer_range,
    hiddenDropout: c.hidden_dropout_prob,
    attnDropout: c.attention_probs_dropout_prob,
    classifierDropout: c.classifier_dropout ?? c.hidden_dropout_prob,
    head: parseHead(c, headClasses(heads)),
    tieWordEmbeddings: true,
    ...endTokens(c),
    inert,
  });
}

function formatConfig(c: BertConfig): Record<string, unknown> {
  return {
    ...c.inert,
    ...formatHead(c, headClasses(heads)),
    model_type: "bert",
    vocab_size: c.vocabSize,
    max_position_embeddings: c.contextLength,
    type_vocab_size: c.typeVocabSize,
    hidden_size: c.hiddenSize,
    num_hidden_layers: c.numLayers,
    num_attention_heads: c.numHeads,
    intermediate_size: c.intermediateSize,
    hidden_act: c.activation,
    hidden_dropout_prob: c.hiddenDropout,
    attention_probs_dropout_prob: c.attnDropout,
    classifier_dropout: c.classifierDropout === c.hiddenDropout ? null : c.classifierDropout,
    layer_norm_eps: c.layerNormEps,
    initializer_range: c.initializerRange,
    tie_word_embeddings: true,
    ...formatEndTokens(c),
  };
}

function createConfig(dials: ModelDials): BertConfig {
  expectAllKvHeads("bert", dials);
  const { dropout = 0 } = dials;
  return parseConfig({
    model_type: "bert",
    vocab_size: dials.vocabSize,
    max_position_embeddings: dials.contextLength,
    hidden_size: dials.hiddenSize,
    num_hidden_layers: dials.numLayers,
    num_attention_heads: dials.numHeads,
    intermediate_size: dials.intermediateSize ?? 4 * dials.hiddenSize,
    hidden_dropout_prob: dropout,
    attention_probs_dropout_prob: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings ?? true,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

const embeddings = learnedEmbeddings<BertConfig>("bert.embeddings");
const blocks = postNormBlocks<BertConfig>(
  (i) => `bert.encoder.layer.${i}`,
  {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attentionOutput: "attention.output.dense",
    attentionNorm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    outputNorm: "output.LayerNorm",
  },
  (c) => ({ attention: c.hiddenDropout, output: c.hiddenDropout }),
);

const trunk: Trunk<BertConfig> = {
  parameters(list, c) {
    embeddings.parameters(list, c);
    blocks.parameters(list, c);
  },
  forward: (call) => blocks.forward(embeddings.forward(call), call),
};

const pool = pooler<BertConfig>("bert.pooler.dense", "tanh");
const dropout = (c: BertConfig): number => c.classifierDropout;
const masked = maskedLmHead<BertConfig>({
  architecture: "BertForMaskedLM",
  transform: denseAndNorm({
    dense: "cls.predictions.transform.dense",
    norm: "cls.predictions.transform.LayerNorm",
    activation: (c) => c.activation,
    eps: (c) => c.layerNormEps,
  }),
  table: "bert.embeddings.word_embeddings",
  bias: "cls.predictions",
});
/** Does the second text follow the first? [B,2]; class 0 says that it does. */
const nextSentence = pairHead<BertConfig>("BertForNextSentencePrediction", pool, "cls.seq_relationship");

const heads: Heads<BertConfig> = {
  lm: masked,
  pretraining: {
    architecture: "BertForPreTraining",
    parameters(list, c) {
      pool.parameters(list, c);
      masked.parameters(list, c);
      list.linear("cls.seq_relationship", c.hiddenSize, 2, { bias: true });
    },
    forward: (x, call) => ({
      logits: masked.forward(x, call).logits,
      nextSentence: nextSentence.forward(x, call).logits,
    }),
  },
  "next-sentence": nextSentence,
  "sequence-classification": sequenceHead({
    architecture: "BertForSequenceClassification",
    pool,
    path: "classifier",
    dropout,
  }),
  "token-classification": tokenHead({ architecture: "BertForTokenClassification", path: "classifier", dropout }),
  "question-answering": spanHead({ architecture: "BertForQuestionAnswering" }),
  none: noHead("BertModel", pool),
};

/** Second names: the tied head, and the norms' gamma and beta of the first checkpoints. */
function tied(c: BertConfig): Record<string, string> {
  const names = Object.keys(bert.parameters(c));
  const copies: Record<string, string> = names.includes("cls.predictions.bias")
    ? {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
      }
    : {};
  for (const name of names) {
    if (name.endsWith("LayerNorm.weight")) copies[name.replace(/weight$/, "gamma")] = name;
    if (name.endsWith("LayerNorm.bias")) copies[name.replace(/bias$/, "beta")] = name;
  }
  return copies;
}

/** BERT (Devlin et al. 2019), as `BertForMaskedLM` or whatever of its heads config.json names. */
export const bert = defineModel<BertConfig>({
  modelType: "bert",
  parseConfig,
  formatConfig,
  createConfig,
  ...encoder(trunk, heads),
  // A checkpoint of both pretraining heads opens as a masked language model too, without what that does not have.
  checkpoint: {
    optionalPrefix: "bert.",
    tied,
    inert: /^((bert\.)?embeddings\.position_ids|bert\.pooler\..*|cls\.seq_relationship\..*)$/,
  },
});
