/**
 * RoBERTa (Liu et al. 2019): BERT's trunk, positions counted from behind the padding id, no next sentences, and heads of its own.
 * Reference: `RobertaForMaskedLM` and its siblings in transformers.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { type BertTrunkConfig, bertDials, bertKeys, bertTrunk, formatBertKeys, readBertKeys } from "./bert-trunk.ts";
import { commonInertKeys, parseModelConfig, tokenIds } from "./config.ts";
import { defineModel } from "./family.ts";
import { formatHead, parseHead } from "./head-config.ts";
import {
  denseAndNorm,
  encoder,
  type Heads,
  headClasses,
  maskedLmHead,
  noHead,
  pooler,
  sequenceHead,
  spanHead,
  tokenHead,
} from "./layers/index.ts";

export interface RobertaConfig extends BertTrunkConfig {
  readonly modelType: "roberta";
  /** The first token's position is the one after it. */
  readonly padTokenId: number;
}

const schema = z.object({
  ...bertKeys,
  model_type: z.literal("roberta"),
  vocab_size: z.int().positive().default(50265),
  pad_token_id: z.int().nonnegative().default(1),
  bos_token_id: z.int().nonnegative().nullish().default(0),
  eos_token_id: tokenIds.default([2]),
});

const offset = ({ padTokenId }: Pick<RobertaConfig, "padTokenId">): number => padTokenId + 1;

function parseConfig(json: unknown): RobertaConfig {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  const contextLength = c.max_position_embeddings - c.pad_token_id - 1;
  if (contextLength < 1) {
    throw new PlinthError(
      `config.json: max_position_embeddings ${c.max_position_embeddings} leaves no position behind pad_token_id ${c.pad_token_id}`,
      "raise it by pad_token_id + 1",
    );
  }
  return Object.freeze({
    modelType: c.model_type,
    ...readBertKeys(c),
    contextLength,
    padTokenId: c.pad_token_id,
    head: parseHead(c, headClasses(heads)),
    inert,
  });
}

const formatConfig = (c: RobertaConfig): Record<string, unknown> => ({
  ...c.inert,
  ...formatHead(c, headClasses(heads)),
  ...formatBertKeys(c),
  max_position_embeddings: c.contextLength + offset(c),
  pad_token_id: c.padTokenId,
});

const dropout = (c: RobertaConfig): number => c.classifierDropout;
const heads: Heads<RobertaConfig> = {
  lm: maskedLmHead({
    architecture: "RobertaForMaskedLM",
    transform: denseAndNorm({
      dense: "lm_head.dense",
      norm: "lm_head.layer_norm",
      activation: () => "gelu",
      eps: (c) => c.layerNormEps,
    }),
    table: "roberta.embeddings.word_embeddings",
    bias: "lm_head",
  }),
  "sequence-classification": sequenceHead({
    architecture: "RobertaForSequenceClassification",
    pool: pooler("classifier.dense", "tanh", dropout),
    path: "classifier.out_proj",
    dropout,
  }),
  "token-classification": tokenHead({ architecture: "RobertaForTokenClassification", path: "classifier", dropout }),
  "question-answering": spanHead({ architecture: "RobertaForQuestionAnswering" }),
  none: noHead("RobertaModel", pooler("roberta.pooler.dense", "tanh")),
};

/** RoBERTa (Liu et al. 2019), as `RobertaForMaskedLM` or whatever of its heads config.json names. */
export const roberta = defineModel<RobertaConfig>({
  modelType: "roberta",
  parseConfig,
  formatConfig,
  createConfig: (dials) =>
    parseConfig({
      ...bertDials("roberta", dials),
      max_position_embeddings: dials.contextLength + offset({ padTokenId: 1 }),
      // It has one type of tokens, as the published models do.
      type_vocab_size: 1,
      bos_token_id: dials.bosTokenId ?? null,
      eos_token_id: dials.eosTokenId ?? null,
    }),
  ...encoder(bertTrunk<RobertaConfig>("roberta", offset), heads),
  checkpoint: {
    optionalPrefix: "roberta.",
    tied: (c) =>
      c.head.kind === "lm"
        ? {
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
          }
        : {},
    inert: /^((roberta\.)?embeddings\.position_ids|roberta\.pooler\..*)$/,
  },
});
