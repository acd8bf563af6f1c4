import { PlinthError } from "../base/index.ts";
import { MergeHeap } from "./merge-heap.ts";
import { Tokenizer } from "./tokenizer.ts";
import { byteLevelBpe } from "./tokenizer-json.ts";
import { detached, gpt2Words } from "./words.ts";

export interface TrainBpeOptions {
  /** Size of the vocabulary, special tokens and the 256 bytes included. */
  readonly vocabSize: number;
  /** First in the vocabulary, in this order. Default: end of text and the two tokens of ChatML. */
  readonly specialTokens?: readonly string[];
  /** Special token that ends a document. Default: the first special token. */
  readonly eosToken?: string;
  /** Pairs seen less often are not merged. Default 0, as in Hugging Face's trainer. */
  readonly minFrequency?: number;
  readonly onProgress?: (progress: {
    readonly phase: "count" | "merge";
    readonly done: number;
    readonly total?: number;
  }) => void;
  readonly signal?: AbortSignal;
}

/** End of text, and the two tokens of ChatML. */
export const defaultSpecialTokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] as const;

/**
 * Trains byte-level BPE (Sennrich et al. 2016; GPT-2's bytes and words): merges the most frequent pair, ties broken by
 * the smaller pair of ids. Gives the vocabulary and merges of Hugging Face's BpeTrainer with a ByteLevel pre-tokenizer on
 * the same texts (letters that only the newer of two Unicode versions knows aside). The vocabulary is smaller than asked when the texts have no more pairs. Throws PlinthError when the
 * vocabulary cannot hold the bytes and special tokens, or the texts are empty.
 */
export async function trainBpe(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainBpeOptions,
): Promise<Tokenizer> {
  const specials = options.specialTokens ?? defaultSpecialTokens;
  const smallest = 256 + specials.length;
  if (!Number.isInteger(options.vocabSize) || options.vocabSize < smallest) {
    throw new PlinthError(
      `--vocab-size: expected at least ${smallest} (256 bytes and ${specials.length} special tokens), got ${options.vocabSize}`,
      `use ${smallest} or more`,
    );
  }
  const vocab = [...specials, ...byteAlphabet()];
  const words = await countWords(texts, options);
  if (words.size === 0) throw new PlinthError("no text to train the tokenizer on", "give a dataset with documents");
  const merges = await mergePairs(words, vocab, options);
  const json = byteLevelBpe(
    Object.fromEntries(vocab.map((token, id) => [token, id])),
    merges.map(([a, b]) => [vocab[a] as string, vocab[b] as string]),
    specials.map((content, id) => ({ content, id })),
  );
  const eos = options.eosToken ?? specials[0];
  return Tokenizer.fromJson(json, {
    ...(eos === undefined ? {} : { bos_token: eos, eos_token: eos, pad_token: eos }),
    clean_up_tokenization_spaces: false,
    model_max_length: 1e30,
  });
}

/** GPT-2's printable stand-ins for the 256 bytes; index = byte. */
export function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCodePoint(printable ? byte : next++);
  });
}

function byteAlphabet(): string[] {
  return byteCharacters().sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number));
}

async function countWords(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainBpeOptions,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let done = 0;
  for await (const text of texts) {
    options.signal?.throwIfAborted();
    for (const [word] of text.matchAll(gpt2Words)) {
      const count = counts.get(word);
      if (count === undefined) counts.set(detached(word), 1);
      else counts.set(word, count + 1);
    }
    options.onProgress?.({ phase: "count", done: ++done });
  }
  return counts;
}

/** Distinct words as ids, back to back, with how often each occurs. */
interface Words {
  readonly symbols: Int32Array[];
  readonly counts: Float64Array;
}

function encodeWords(words: ReadonlyMap<string, number>, specials: number): Words {
  const idOfByte = new Int32Array(256);
  const rank = new Map(byteAlphabet().map((character, i) => [character, i]));
  for (const [byte, character] of byteCharacters().entries())
    idOfByte[byte] = specials + (rank.get(character) as number);
  const symbols: Int32Array[] = [];
  for (const word of words.keys())
    symbols.push(Int32Array.from(Buffer.from(word, "utf8"), (byte) => idOfByte[byte] as number));
  return { symbols, counts: Float64Array.from(words.values()) };
}

/** Learns merges until the vocabulary is full or no pair is left; extends `vocab`. */
async function mergePairs(
  wordCounts: ReadonlyMap<string, number>,
  vocab: string[],
  options: TrainBpeOptions,
): Promise<[number, number][]> {
  const { symbols, counts } = encodeWords(wordCounts, vocab.length - 256);
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
    const token = (vocab[a] as string) + (vocab[b] as string);
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
