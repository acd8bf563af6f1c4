/** What BERT and RoBERTa share: the keys of their config.json, and the trunk under another prefix. */
import { z } from "zod";
import { endTokens, expectAllKvHeads, expectMultiple, formatEndTokens, tokenIds } from "./config.ts";
import type { ModelDials } from "./family.ts";
import { headKeys } from "./head-config.ts";
import {
  type ActivationName,
  activationNames,
  type EncoderConfig,
  learnedEmbeddings,
  postNormBlocks,
  type Trunk,
} from "./layers/index.ts";

export interface BertTrunkConfig extends EncoderConfig {
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
export const bertKeys = {
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
};
const schema = z.object(bertKeys);

/** The config of {@link bertKeys}, without the head and what says which model it is. */
export function readBertKeys(c: z.output<typeof schema>) {
  expectMultiple(c, "hidden_size", "num_attention_heads");
  return {
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
    tieWordEmbeddings: true,
    ...endTokens(c),
  };
}

/** The reverse of {@link readBertKeys}. */
export function formatBertKeys(c: BertTrunkConfig): Record<string, unknown> {
  return {
    model_type: c.modelType,
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

/** {@link bertKeys} of a new model. */
export function bertDials(modelType: string, dials: ModelDials): Record<string, unknown> {
  expectAllKvHeads(modelType, dials);
  const { dropout = 0 } = dials;
  return {
    model_type: modelType,
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
  };
}

/** Embeddings and blocks below the heads; `positionOffset`: rows of the position table before the first token's. */
export function bertTrunk<C extends BertTrunkConfig>(prefix: string, positionOffset?: (c: C) => number): Trunk<C> {
  const embeddings = learnedEmbeddings<C>(`${prefix}.embeddings`, positionOffset);
  const blocks = postNormBlocks<C>(
    (i) => `${prefix}.encoder.layer.${i}`,
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
  return {
    parameters(list, c) {
      embeddings.parameters(list, c);
      blocks.parameters(list, c);
    },
    forward: (call) => blocks.forward(embeddings.forward(call), call),
  };
}
