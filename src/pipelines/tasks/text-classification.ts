import { PlinthError } from "../../base/index.ts";
import type { TextPair } from "../../data/index.ts";
import { encodeTextPairs, type HeadResult, runHead } from "../../generate/index.ts";
import { headOf } from "../../models/index.ts";
import { definePipeline } from "../pipeline.ts";
import { headResult, softmax, topK } from "../scores.ts";

export interface Classification {
  readonly label: string;
  /** Probability; of a model of one number (regression) that number. */
  readonly score: number;
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
    const logitsOf = async (text: string, pair: string | undefined): Promise<number[]> => {
      if (model.family.kind !== "encoder") {
        const [result] = await runHead(model, await encodeTextPairs(model, [{ text, pair }]), run);
        return [...(result as HeadResult).values];
      }
      const maxLength = model.config.contextLength;
      const options = { ...(pair === undefined ? {} : { pair }), addSpecialTokens: true, maxLength };
      return [...(await headResult(model, await tokenizer.encodeWithOffsets(text, options), run)).values];
    };
    return async (given, { topK: count = 1 } = {}) => {
      if (!(count >= 1))
        throw new PlinthError(`topK: expected at least 1, got ${count}`, "leave it out for the best label");
      const { text, pair } = typeof given === "string" ? { text: given, pair: undefined } : given;
      const raw = await logitsOf(text, pair);
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
