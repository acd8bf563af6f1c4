import type { TrainingControl } from "./count-words.ts";
import { anyScript, scriptOf } from "./scripts.ts";
import { Lattices, PieceTrie } from "./unigram-lattice.ts";
import { seedPieces, separator, type WordText } from "./unigram-seeds.ts";

export interface UnigramPiece {
  readonly piece: string;
  /** Log-probability in nats. */
  readonly score: number;
}

export interface UnigramModelOptions extends TrainingControl {
  /** Pieces to end with, single characters included. */
  readonly size: number;
  readonly maxPieceLength: number;
  readonly seedSize: number;
  /** No piece has letters of two scripts, or letters and other characters. */
  readonly splitByScript: boolean;
  /** Of the pieces, how many survive a round of pruning. */
  readonly shrinkingFactor: number;
}

/** Score of a piece that is not there any more. */
const dropped = Number.NEGATIVE_INFINITY;
const emPerRound = 2;
/** Pieces that are expected less often are dropped. */
const leastExpected = 0.5;
/** Pruning ends with some more than asked; the least probable of them go in the end. */
const surplus = 1.1;

/**
 * Fits a unigram language model of pieces to words: from many candidates, expectation-maximisation of their probabilities
 * in turn with dropping those whose loss lowers the likelihood least, until as many as asked are left; characters always
 * stay. Gives pieces by falling score. Source: Kudo 2018; google/sentencepiece, unigram_model_trainer.cc (its expected
 * counts, digamma for the maximisation, approximate loss and final choice).
 */
export async function fitUnigram(
  words: ReadonlyMap<string, number>,
  options: UnigramModelOptions,
): Promise<UnigramPiece[]> {
  const { text, characters } = spell(words);
  const { size, maxPieceLength, seedSize } = options;
  const scripts = Uint8Array.from(["", ...characters], (character) =>
    options.splitByScript ? scriptOf(character) : anyScript,
  );
  const seeds = seedPieces(text, {
    maxLength: maxPieceLength,
    most: seedSize,
    isAllowed: (symbols) => isOfOneScript(symbols, scripts),
  });

  // Pieces: the characters, then the seeds.
  const singles = characters.length;
  const counts = new Float64Array(singles + seeds.starts.length);
  for (let i = 0; i < text.symbols.length; i++) {
    const symbol = text.symbols[i] as number;
    if (symbol !== separator) counts[symbol - 1] = (counts[symbol - 1] as number) + (text.counts[i] as number);
  }
  const symbolsOf = (piece: number): Int32Array => {
    if (piece < singles) return Int32Array.of(piece + 1);
    const start = seeds.starts[piece - singles] as number;
    return text.symbols.subarray(start, start + (seeds.lengths[piece - singles] as number));
  };
  const trie = new PieceTrie();
  let total = 0;
  for (let piece = 0; piece < counts.length; piece++) {
    trie.add(symbolsOf(piece), piece);
    if (piece >= singles) counts[piece] = (seeds.counts[piece - singles] as number) * symbolsOf(piece).length;
    total += counts[piece] as number;
  }
  const lattices = new Lattices(text, trie);
  const ofPieces = new Lattices(joined(counts.length, symbolsOf), trie);
  let scores = counts.map((count) => Math.log(count / total));
  const isThere = (piece: number): boolean => scores[piece] !== dropped;
  const desired = Math.ceil(size * surplus);
  for (;;) {
    for (let i = 0; i < emPerRound; i++) {
      const expected = new Float64Array(counts.length);
      lattices.expect(scores, expected);
      scores = maximise(expected, scores, { singles, least: desired });
      await new Promise(setImmediate); // lets timers and Ctrl-C through
      options.signal?.throwIfAborted();
    }
    const left = scores.reduce((n, score) => n + (score === dropped ? 0 : 1), 0);
    options.onProgress?.({ phase: "prune", done: left, total: size });
    if (left <= desired) break;
    const most = Math.max(desired, Math.floor(options.shrinkingFactor * left));
    const kept = prune({ lattices, ofPieces }, scores, { singles, most, least: desired });
    scores = scores.map((score, piece) => (kept.has(piece) ? score : dropped));
    lattices.keep(isThere);
    ofPieces.keep(isThere);
  }

  const name = (piece: number) => Array.from(symbolsOf(piece), (symbol) => characters[symbol - 1]).join("");
  const byScore = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => from + i)
      .filter(isThere)
      .sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
  return [...byScore(0, singles), ...byScore(singles, counts.length)]
    .slice(0, Math.max(size, singles))
    .sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b)
    .map((piece) => ({ piece: name(piece), score: scores[piece] as number }));
}

/** Words as numbers of their characters from 1, in the order of code points. */
function spell(words: ReadonlyMap<string, number>): { text: WordText; characters: string[] } {
  const seen = new Set<string>();
  let length = 0;
  for (const word of words.keys()) {
    for (const character of word) {
      seen.add(character);
      length++;
    }
    length++;
  }
  const characters = [...seen].sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number));
  const symbolOf = new Map(characters.map((character, i) => [character, i + 1]));
  const symbols = new Int32Array(length);
  const counts = new Float64Array(length);
  let at = 0;
  for (const [word, count] of words) {
    for (const character of word) {
      counts[at] = count;
      symbols[at++] = symbolOf.get(character) as number;
    }
    symbols[at++] = separator;
  }
  return { text: { symbols, counts }, characters };
}

function isOfOneScript(symbols: Int32Array, scripts: Uint8Array): boolean {
  let script = anyScript;
  for (const symbol of symbols) {
    const own = scripts[symbol] as number;
    if (own === anyScript) continue;
    if (script !== anyScript && own !== script) return false;
    script = own;
  }
  return true;
}

/** The pieces themselves as words. */
function joined(size: number, symbolsOf: (piece: number) => Int32Array): WordText {
  let length = 0;
  for (let piece = 0; piece < size; piece++) length += symbolsOf(piece).length + 1;
  const symbols = new Int32Array(length);
  let at = 0;
  for (let piece = 0; piece < size; piece++) {
    symbols.set(symbolsOf(piece), at);
    at += symbolsOf(piece).length;
    symbols[at++] = separator;
  }
  return { symbols, counts: new Float64Array(length) };
}

/**
 * New scores from expected counts; the digamma in place of the logarithm favours few frequent pieces. Pieces that are
 * hardly expected are dropped as long as `least` are left.
 */
function maximise(
  expected: Float64Array,
  scores: Float64Array,
  { singles, least }: { readonly singles: number; readonly least: number },
): Float64Array<ArrayBuffer> {
  const kept = new Set<number>();
  for (let piece = 0; piece < expected.length; piece++) {
    if (piece < singles || (scores[piece] !== dropped && (expected[piece] as number) >= leastExpected)) kept.add(piece);
  }
  fill(kept, least, { scores, worth: expected });
  let sum = 0;
  for (const piece of kept) sum += Math.max(expected[piece] as number, leastExpected);
  const logSum = digamma(sum);
  return Float64Array.from(expected, (count, piece) =>
    kept.has(piece) ? digamma(Math.max(count, leastExpected)) - logSum : dropped,
  );
}

/** Adds the pieces of most worth of those that are there until there are `least`: a short text has no better ones. */
function fill(
  kept: Set<number>,
  least: number,
  { scores, worth }: { readonly scores: Float64Array; readonly worth: Float64Array },
): void {
  if (kept.size >= least) return;
  const others = Array.from(scores.keys()).filter((piece) => scores[piece] !== dropped && !kept.has(piece));
  others.sort((a, b) => (worth[b] as number) - (worth[a] as number) || a - b);
  for (const piece of others.slice(0, least - kept.size)) kept.add(piece);
}

/** The pieces to keep: `most` of them, those whose loss would cost the likelihood most. */
function prune(
  { lattices, ofPieces }: { readonly lattices: Lattices; readonly ofPieces: Lattices },
  scores: Float64Array,
  { singles, most, least }: { readonly singles: number; readonly most: number; readonly least: number },
): Set<number> {
  const uses = new Float64Array(scores.length);
  let words = 0;
  for (let word = 0; word < lattices.size; word++) {
    const count = lattices.counts[word] as number;
    for (const piece of lattices.bestPath(word, scores)) uses[piece] = (uses[piece] as number) + count;
    words += count;
  }
  const sum = uses.reduce((a, b) => a + b, 0);
  const kept = new Set<number>();
  const candidates: { piece: number; loss: number }[] = [];
  for (let piece = 0; piece < scores.length; piece++) {
    if (scores[piece] === dropped) continue;
    const use = uses[piece] as number;
    if (piece < singles) {
      kept.add(piece);
      continue;
    }
    // Not used, or better said with other pieces anyway.
    if (use === 0 || ofPieces.bestPath(piece, scores).length !== 1) continue;
    const instead = ofPieces.bestPath(piece, scores, piece);
    const logSum = Math.log(sum + use * (instead.length - 1));
    let without = 0;
    for (const other of instead) without += Math.log((uses[other] as number) + use) - logSum;
    candidates.push({ piece, loss: (use / words) * (Math.log(use) - Math.log(sum) - without) });
  }
  candidates.sort((a, b) => b.loss - a.loss || a.piece - b.piece);
  for (const { piece } of candidates.slice(0, Math.max(0, most - kept.size))) kept.add(piece);
  fill(kept, least, { scores, worth: scores });
  return kept;
}

/** Derivative of the logarithm of the gamma function, for x > 0 (asymptotic series after shifting x above 7). */
function digamma(x: number): number {
  let result = 0;
  for (; x < 7; x++) result -= 1 / x;
  const y = 1 / ((x - 0.5) * (x - 0.5));
  return result + Math.log(x - 0.5) + y * (1 / 24 - y * (7 / 960 - y * (31 / 8064 - y * (127 / 30720))));
}
