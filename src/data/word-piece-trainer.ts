import { bertNormalizer, bertPreTokenizer } from "tokenizers";
import { PlinthError } from "../base/index.ts";
import { countWords, splitWords, type TrainingControl } from "./count-words.ts";
import { mergePairs, type WordSymbols } from "./merge-pairs.ts";
import { Tokenizer } from "./tokenizer.ts";
import { bertConfig, bertSpecialTokens, wordPieceJson } from "./word-piece.ts";

export interface TrainWordPieceOptions extends TrainingControl {
  /** Size of the vocabulary, special tokens and characters included. */
  readonly vocabSize: number;
  /** First in the vocabulary, in this order; [UNK] is among them. Default: BERT's [PAD] [UNK] [CLS] [SEP] [MASK]. */
  readonly specialTokens?: readonly string[];
  /** Lowercase the text and drop its accents, as BERT uncased does. Default true. */
  readonly lowercase?: boolean;
  /** Pairs seen less often are not joined. Default 0. */
  readonly minFrequency?: number;
  /** Characters that the vocabulary has at most, the most frequent ones; words with others are unknown. Default: all. */
  readonly alphabetSize?: number;
}

const continuing = "##";

/**
 * Trains a BERT's vocabulary of word pieces: of words as BERT's normaliser and splitter give them, joins the most frequent
 * pair of pieces until the vocabulary is full, as Hugging Face's WordPieceTrainer does (the original trainer is
 * unpublished). Encoding takes the longest piece first. Ties go to the smaller pair of ids. The vocabulary is smaller than
 * asked when there are no more pairs. Throws PlinthError when the vocabulary has no room for special tokens and
 * characters, has no [UNK], or the texts are empty.
 */
export async function trainWordPiece(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainWordPieceOptions,
): Promise<Tokenizer> {
  const {
    specialTokens: specials = bertSpecialTokens,
    lowercase = true,
    alphabetSize = Number.POSITIVE_INFINITY,
  } = options;
  if (!specials.includes("[UNK]")) {
    throw new PlinthError("a word-piece tokenizer needs the special token [UNK]", "add it to the special tokens");
  }
  const normalizer = bertNormalizer({ lowercase });
  const splitter = bertPreTokenizer();
  // White space separates words before and after normalising, so that each distinct one is looked at once.
  const words = splitWords(await countWords(texts, /\P{White_Space}+/gu, options), (word) =>
    splitter.preTokenizeString(normalizer.normalizeString(word)).map(([part]) => part),
  );

  const vocab = [...specials];
  const symbols = spell(words, vocab, alphabetSize);
  if (vocab.length > options.vocabSize) {
    throw new PlinthError(
      `--vocab-size: expected at least ${vocab.length} (${specials.length} special tokens and ${vocab.length - specials.length} characters), got ${options.vocabSize}`,
      `use ${vocab.length} or more, or fewer characters with --alphabet-size`,
    );
  }
  await mergePairs(symbols, vocab, {
    ...options,
    join: (left, right) => left + (right.startsWith(continuing) ? right.slice(continuing.length) : right),
  });
  const ids = Object.fromEntries(vocab.map((token, id) => [token, id]));
  const json = wordPieceJson(ids, { lowercase, specialTokens: specials });
  return Tokenizer.fromJson(json, bertConfig(ids, lowercase));
}

/** Words as characters, all but the first marked as continuing; adds these to the vocabulary, by code point. */
function spell(words: ReadonlyMap<string, number>, vocab: string[], alphabetSize: number): WordSymbols {
  const counts = new Map<string, number>();
  for (const [word, count] of words) {
    for (const character of word) counts.set(character, (counts.get(character) ?? 0) + count);
  }
  const kept = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, alphabetSize);
  const alphabet = new Set(kept.map(([character]) => character));
  const known = [...words].filter(([word]) => [...word].every((character) => alphabet.has(character)));

  const pieces = (word: string) => [...word].map((character, i) => (i === 0 ? character : continuing + character));
  const seen = new Set(known.flatMap(([word]) => pieces(word)));
  const idOf = new Map(vocab.map((token, id) => [token, id]));
  for (const piece of [...seen].sort((a, b) => a.length - b.length || (a < b ? -1 : 1))) {
    if (!idOf.has(piece)) idOf.set(piece, vocab.push(piece) - 1);
  }
  return {
    symbols: known.map(([word]) => Int32Array.from(pieces(word), (piece) => idOf.get(piece) as number)),
    counts: Float64Array.from(known, ([, count]) => count),
  };
}
