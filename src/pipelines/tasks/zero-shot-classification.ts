import { PlinthError } from "../../base/index.ts";
import { headOf } from "../../models/index.ts";
import { definePipeline } from "../pipeline.ts";
import { headResults, softmax, topK } from "../scores.ts";

export interface ZeroShot {
  readonly sequence: string;
  /** Likeliest first. */
  readonly labels: readonly string[];
  readonly scores: readonly number[];
}

export interface ZeroShotOptions {
  /** Each label on its own, for texts that may be of several; default false: the scores sum to 1. */
  readonly multiLabel?: boolean;
  /** The sentence that says that a text is of a label, `{}`; default "This example is {}." */
  readonly hypothesisTemplate?: string;
}

/** Which labels a text is of, by a model of natural language inference: does the text entail that it is (Yin et al. 2019)? */
export type ZeroShotClassification = (
  text: string,
  labels: readonly string[],
  options?: ZeroShotOptions,
) => Promise<ZeroShot>;

definePipeline<ZeroShotClassification>({
  names: ["zero-shot-classification"],
  head: "sequence-classification",
  create({ model, tokenizer, run }) {
    const names = headOf(model.config).labels.map((label) => label.toLowerCase());
    const entailment = names.findIndex((name) => name.startsWith("entail"));
    if (entailment < 0) {
      throw new PlinthError(
        `pipeline zero-shot-classification: the model tells ${names.join(", ")} apart, and none of these is entailment`,
        "use a model that was trained on natural language inference",
      );
    }
    const named = names.findIndex((name) => name.startsWith("contra"));
    const contradiction = named >= 0 ? named : entailment === 0 ? names.length - 1 : 0;
    return async (text, labels, { multiLabel = false, hypothesisTemplate = "This example is {}." } = {}) => {
      if (labels.length === 0)
        throw new PlinthError("pipeline zero-shot-classification: no labels", "name at least one");
      if (!hypothesisTemplate.includes("{}")) {
        throw new PlinthError(
          `hypothesisTemplate ${JSON.stringify(hypothesisTemplate)} has no {}`,
          "put it where the label goes",
        );
      }
      const maxLength = model.config.contextLength;
      const pairs = await Promise.all(
        labels.map((label) => tokenizer.encodePair(text, hypothesisTemplate.replace("{}", label), { maxLength })),
      );
      const logits = (await headResults(model, pairs, run)).map(({ values }) => values);
      const scores =
        multiLabel || labels.length === 1
          ? logits.map((x) => softmax([x[contradiction] as number, x[entailment] as number])[1] as number)
          : softmax(logits.map((x) => x[entailment] as number));
      const order = topK(scores, labels.length);
      return {
        sequence: text,
        labels: order.map((i) => labels[i] as string),
        scores: order.map((i) => scores[i] as number),
      };
    };
  },
});
