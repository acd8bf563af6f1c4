import type { TrainingControl } from "./count-words.ts";
import { MergeHeap } from "./merge-heap.ts";

/** Distinct words as ids of the vocabulary, with how often each occurs. The symbols are used up. */
export interface WordSymbols {
  readonly symbols: Int32Array[];
  readonly counts: Float64Array;
}

export interface MergeOptions extends TrainingControl {
  readonly vocabSize: number;
  readonly minFrequency?: number;
  /** The token that two tokens make. */
  readonly join: (left: string, right: string) => string;
}

/**
 * Learns merges of the most frequent pair, ties by the smaller pair of ids, until the vocabulary is full or no pair is
 * left; extends `vocab`. Gives the pairs of ids in order.
 */
export async function mergePairs(
  { symbols, counts }: WordSymbols,
  vocab: string[],
  options: MergeOptions,
): Promise<[number, number][]> {
  const idOf = new Map(vocab.map((token, id) => [token, id]));
  const base = 2 ** 26; // a pair of ids as one exact number
  const pairCounts = new Map<number, number>();
  const heap = new MergeHeap();
  const add = (pair: number, change: number) => pairCounts.set(pair, (pairCounts.get(pair) ?? 0) + change);
  const note = (places: Map<number, number[]>, pair: number, word: number) => {
    const list = places.get(pair);
    if (list === undefined) places.set(pair, [word]);
    else if (list[list.length - 1] !== word) list.push(word);
  };

  let places = new Map<number, number[]>();
  for (const [word, ids] of symbols.entries()) {
    for (let i = 0; i + 1 < ids.length; i++) {
      const pair = (ids[i] as number) * base + (ids[i + 1] as number);
      add(pair, counts[word] as number);
      note(places, pair, word);
    }
  }
  for (const [pair, words] of places) heap.push({ pair, count: pairCounts.get(pair) as number, words });

  const merges: [number, number][] = [];
  while (vocab.length < options.vocabSize) {
    const top = heap.pop();
    if (top === undefined) break;
    const current = pairCounts.get(top.pair) as number;
    if (top.count !== current) {
      heap.push({ ...top, count: current });
      continue;
    }
    if (top.count < 1 || top.count < (options.minFrequency ?? 0)) break;
    const a = Math.floor(top.pair / base);
    const b = top.pair % base;
    const token = options.join(vocab[a] as string, vocab[b] as string);
    let id = idOf.get(token);
    if (id === undefined) {
      id = vocab.push(token) - 1;
      idOf.set(token, id);
    }
    merges.push([a, b]);
    places = new Map();
    for (const word of top.words) {
      const count = counts[word] as number;
      symbols[word] = mergeWord(symbols[word] as Int32Array, [a, b, id], (left, right, change) => {
        const pair = left * base + right;
        add(pair, change * count);
        if (change > 0) note(places, pair, word);
      });
    }
    for (const [pair, words] of places) {
      const count = pairCounts.get(pair) as number;
      if (count > 0) heap.push({ pair, count, words });
    }
    if (merges.length % 256 === 0) {
      options.onProgress?.({ phase: "merge", done: vocab.length, total: options.vocabSize });
      await new Promise(setImmediate); // lets timers and Ctrl-C through
      options.signal?.throwIfAborted();
    }
  }
  return merges;
}

/** Replaces the pair in a word from left to right and reports how neighbouring pairs change. */
function mergeWord(
  ids: Int32Array,
  [a, b, merged]: readonly [number, number, number],
  change: (left: number, right: number, by: 1 | -1) => void,
): Int32Array {
  let length = 0;
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === a && i + 1 < ids.length && ids[i + 1] === b) {
      if (length > 0) {
        change(ids[length - 1] as number, a, -1);
        change(ids[length - 1] as number, merged, 1);
      }
      if (i + 2 < ids.length) {
        change(b, ids[i + 2] as number, -1);
        change(merged, ids[i + 2] as number, 1);
      }
      ids[length++] = merged;
      i++;
    } else {
      ids[length++] = ids[i] as number;
    }
  }
  return ids.subarray(0, length);
}
