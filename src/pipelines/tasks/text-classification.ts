import { PlinthError } from "../../base/index.ts";
import { headOf } from "../../models/index.ts";
import { encoderLogits, softmax, topK } from "../encoder.ts";
import { definePipeline } from "../pipeline.ts";

export interface Classification {
  readonly label: string;
  /** Probability; of a model of one number (regression) that number. */
  readonly score: number;
}

export interface TextPair {
  readonly text: string;
  readonly textPair: string;
}

/** The `topK` likeliest labels of a text or a pair of texts, likeliest first; default one. */
export type TextClassification = (
  text: string | TextPair,
  options?: { readonly topK?: number },
) => Promise<Classification[]>;

definePipeline<TextClassification>({
  names: ["text-classification", "sentiment-analysis"],
  head: "sequence-classification",
  create({ model, tokenizer, run }) {
    const { labels, problem } = headOf(model.config);
    return async (given, { topK: count = 1 } = {}) => {
      if (!(count >= 1))
        throw new PlinthError(`topK: expected at least 1, got ${count}`, "leave it out for the best label");
      const { text, ...pair } =
        typeof given === "string" ? { text: given } : { text: given.text, pair: given.textPair };
      const maxLength = model.config.contextLength;
      const encoded = await tokenizer.encodeWithOffsets(text, { ...pair, addSpecialTokens: true, maxLength });
      const [logits] = await encoderLogits(model, [encoded], run);
      const raw = [...(logits?.data ?? [])];
      const scores =
        problem === "regression"
          ? raw
          : problem === "multi_label_classification"
            ? raw.map((x) => 1 / (1 + Math.exp(-x)))
            : softmax(raw);
      return topK(scores, count).map((i) => ({ label: labels[i] as string, score: scores[i] as number }));
    };
  },
});
