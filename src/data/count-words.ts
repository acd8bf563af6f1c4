import { PlinthError } from "../base/index.ts";
import { detached } from "./words.ts";

/** How the training of a tokenizer reports and is stopped. */
export interface TrainingControl {
  readonly onProgress?: (progress: {
    /** Documents counted, tokens merged, or tokens left of the candidates. */
    readonly phase: "count" | "merge" | "prune";
    readonly done: number;
    readonly total?: number;
  }) => void;
  readonly signal?: AbortSignal;
}

/** Distinct words of the texts, the matches of a global expression, and how often each occurs. Throws PlinthError on no words. */
export async function countWords(
  texts: Iterable<string> | AsyncIterable<string>,
  words: RegExp,
  options: TrainingControl,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let done = 0;
  for await (const text of texts) {
    options.signal?.throwIfAborted();
    for (const [word] of text.matchAll(words)) {
      const count = counts.get(word);
      if (count === undefined) counts.set(detached(word), 1);
      else counts.set(word, count + 1);
    }
    options.onProgress?.({ phase: "count", done: ++done });
  }
  if (counts.size === 0) throw new PlinthError("no text to train the tokenizer on", "give a dataset with documents");
  return counts;
}

/** The words that a tokenizer makes of each of these, with their counts: normalised and split. */
export function splitWords(
  counts: ReadonlyMap<string, number>,
  split: (word: string) => Iterable<string>,
): Map<string, number> {
  const parts = new Map<string, number>();
  for (const [word, count] of counts) {
    for (const part of split(word)) parts.set(part, (parts.get(part) ?? 0) + count);
  }
  return parts;
}
