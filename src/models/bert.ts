/**
 * BERT (Devlin et al. 2019): a bidirectional encoder, learned positions, token types, layer norm after each sublayer, and the
 * heads of its pretraining and of the tasks it is fine-tuned for. Reference: `BertForMaskedLM`, `BertForPreTraining` and their
 * siblings in transformers. Knows nothing of masking, training, adapters, files or devices.
 */
import { z } from "zod";
import { type BertTrunkConfig, bertDials, bertKeys, bertTrunk, formatBertKeys, readBertKeys } from "./bert-trunk.ts";
import { commonInertKeys, parseModelConfig } from "./config.ts";
import { defineModel } from "./family.ts";
import { formatHead, parseHead } from "./head-config.ts";
import {
  denseAndNorm,
  encoder,
  type Heads,
  headClasses,
  maskedLmHead,
  noHead,
  pairHead,
  pooler,
  sequenceHead,
  spanHead,
  tokenHead,
} from "./layers/index.ts";

export interface BertConfig extends BertTrunkConfig {
  readonly modelType: "bert";
}

const schema = z.object({ ...bertKeys, model_type: z.literal("bert") });

function parseConfig(json: unknown): BertConfig {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  return Object.freeze({ modelType: c.model_type, ...readBertKeys(c), head: parseHead(c, headClasses(heads)), inert });
}

const formatConfig = (c: BertConfig): Record<string, unknown> => ({
  ...c.inert,
  ...formatHead(c, headClasses(heads)),
  ...formatBertKeys(c),
});

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
  createConfig: (dials) => parseConfig(bertDials("bert", dials)),
  ...encoder(bertTrunk<BertConfig>("bert"), heads),
  // A checkpoint of both pretraining heads opens as a masked language model too, without what that does not have.
  checkpoint: {
    optionalPrefix: "bert.",
    tied,
    inert: /^((bert\.)?embeddings\.position_ids|bert\.pooler\..*|cls\.seq_relationship\..*)$/,
  },
});
