import { PlinthError } from "../../base/index.ts";
import type { Encoded } from "../../data/index.ts";
import type { HeadResult } from "../../generate/index.ts";
import { definePipeline } from "../pipeline.ts";
import { headResults, softmax } from "../scores.ts";

export interface Answer {
  readonly answer: string;
  /** Probability of the beginning times that of the end, among the places of the context. */
  readonly score: number;
  /** Span of the context, in UTF-16 units. */
  readonly start: number;
  readonly end: number;
}

export interface QuestionAnsweringOptions {
  /** How many answers; default 1. */
  readonly topK?: number;
  /** Most tokens of an answer; default 15. */
  readonly maxAnswerLength?: number;
  /** Tokens that neighbouring parts of a long context share; default a quarter of what the model reads, at most 128. */
  readonly stride?: number;
}

/** Where a context answers a question, best first. A context longer than the model reads is read in parts. */
export type QuestionAnswering = (
  question: string,
  context: string,
  options?: QuestionAnsweringOptions,
) => Promise<Answer[]>;

definePipeline<QuestionAnswering>({
  names: ["question-answering"],
  head: "question-answering",
  create({ model, tokenizer, run }) {
    return async (question, context, options = {}) => {
      const { topK: count = 1, maxAnswerLength = 15 } = options;
      if (context.trim() === "") {
        throw new PlinthError("pipeline question-answering: the context is empty", "give a text that has the answer");
      }
      const maxLength = model.config.contextLength;
      const stride = options.stride ?? Math.min(128, Math.floor(maxLength / 4));
      const windows = await tokenizer.encodeWindows(question, context, { maxLength, stride });
      const logits = await headResults(model, windows, run);
      const found = windows.flatMap((window, i) =>
        spans(window, logits[i] as HeadResult, maxAnswerLength).map((span) => ({
          ...span,
          answer: context.slice(span.start, span.end),
        })),
      );
      const answers = new Map<string, Answer>();
      for (const each of found.sort((a, b) => b.score - a.score)) {
        const key = `${each.start}-${each.end}`;
        if (!answers.has(key)) answers.set(key, each);
      }
      return [...answers.values()].slice(0, count);
    };
  },
});

/** Every span of the context in one window with its score. The first token, "no answer", takes part in the probabilities. */
function spans({ sequences, offsets }: Encoded, { values }: HeadResult, longest: number) {
  const places = [...sequences.keys()].filter((at) => at === 0 || sequences[at] === 1);
  const side = (column: 0 | 1): number[] => softmax(places.map((at) => values[2 * at + column] as number));
  const [starts, ends] = [side(0), side(1)];
  const found: Omit<Answer, "answer">[] = [];
  for (let i = 1; i < places.length; i++) {
    for (let j = i; j < Math.min(places.length, i + longest); j++) {
      const [start] = offsets[places[i] as number] as readonly [number, number];
      const [, end] = offsets[places[j] as number] as readonly [number, number];
      found.push({ score: (starts[i] as number) * (ends[j] as number), start, end });
    }
  }
  return found;
}
