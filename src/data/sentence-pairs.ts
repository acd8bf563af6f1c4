import { PlinthError } from "../base/index.ts";
import { type HostRandom, NdArray } from "../engine/index.ts";
import { type Batch, ignoreIndex } from "./batch.ts";
import { type BatchSource, countedBatches } from "./batch-source.ts";
import { PaddedRows } from "./padded-rows.ts";
import { randomFor } from "./row-stream.ts";
import { joinPair, type PairTokens, pairTokens } from "./text-pairs.ts";
import type { TokenDocuments } from "./token-documents.ts";
import { countBytes } from "./token-documents.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface SentencePairOptions {
  readonly batchSize: number;
  readonly context: number;
  readonly seed?: number;
}

/** A stretch of a document's tokens. */
interface Piece {
  readonly document: number;
  readonly start: number;
  readonly end: number;
}

/**
 * Pairs of texts for BERT's pretraining (Devlin et al. 2019, A.2): a piece of a document that fits a row is cut in two, where it can be
 * after a sentence; half of the rows keep both parts (`nextSentence` 0), the other half get, in place of the second, the beginning of a
 * piece of another document (1). Every epoch visits all pieces in a new order and cuts them anew. Throws PlinthError when there are not two documents
 * to take texts from, or the tokenizer has nothing to put between two texts.
 */
export function sentencePairBatches(
  documents: TokenDocuments,
  tokenizer: Tokenizer,
  options: SentencePairOptions,
): BatchSource {
  const { batchSize, context, seed = 0 } = options;
  const pairs = new SentencePairs(documents, tokenizer, context);
  const fingerprint = { data: documents.hash.slice(0, 16), batchSize, context, seed };
  return countedBatches(fingerprint, (step) => pairs.batch(batchSize, step * batchSize, seed));
}

/** At most `maxBatches` batches of the pieces of documents, the same each time. */
export function heldOutSentencePairs(
  documents: TokenDocuments,
  tokenizer: Tokenizer,
  { batchSize, context, maxBatches }: SentencePairOptions & { readonly maxBatches: number },
): AsyncIterable<Batch> {
  const pairs = new SentencePairs(documents, tokenizer, context);
  const count = Math.min(maxBatches, Math.ceil(pairs.count / batchSize));
  return {
    async *[Symbol.asyncIterator]() {
      for (let i = 0; i < count; i++) yield await pairs.batch(batchSize, i * batchSize, 0);
    },
  };
}

class SentencePairs {
  readonly #documents: TokenDocuments;
  readonly #context: number;
  readonly #tokens: PairTokens;
  readonly #pieces: readonly Piece[] = [];
  /** Ids after which a sentence is over. */
  readonly #isEnd: Uint8Array;
  #order: { readonly epoch: number; readonly pieces: readonly number[] } | undefined;

  constructor(documents: TokenDocuments, tokenizer: Tokenizer, context: number) {
    this.#documents = documents;
    this.#context = context;
    this.#tokens = pairTokens(tokenizer, { pairs: true });
    const { begin, between, end } = this.#tokens;
    const room = context - begin.length - between.length - end.length;
    this.#pieces = cutPieces(documents, room);
    const [first, last] = [this.#pieces[0], this.#pieces.at(-1)];
    if (room < 2 || first === undefined || first.document === last?.document) {
      throw new PlinthError(
        `next sentences: no two documents with texts to pair in rows of ${context} tokens`,
        "use more documents or a longer context",
      );
    }
    const { vocabSize } = tokenizer;
    this.#isEnd = Uint8Array.from({ length: vocabSize }, (_, id) =>
      Number(/[.!?]["”»')\]]*$|[\nĊ]$/u.test(tokenizer.idToToken(id) ?? "")),
    );
  }

  get count(): number {
    return this.#pieces.length;
  }

  /** Rows `first` to `first + rows` of the endless sequence of epochs. */
  async batch(rows: number, first: number, seed: number): Promise<Batch> {
    const T = this.#context;
    const padded = new PaddedRows(rows, { context: T, pad: this.#tokens.pad });
    const targets = new Int32Array(rows * T).fill(ignoreIndex);
    const nextSentence = new Int32Array(rows);
    let tokenCount = 0;
    let byteCount = 0;
    for (let row = 0; row < rows; row++) {
      const pair = await this.#pair(first + row, seed);
      const { ids, types } = joinPair(pair.a, pair.b, this.#tokens, T);
      padded.set(row, ids, types);
      targets.set(ids, row * T);
      nextSentence[row] = pair.isNext ? 0 : 1;
      tokenCount += pair.a.length + pair.b.length;
      byteCount += countBytes(ids, this.#documents.source.tokenBytes);
    }
    return {
      ...padded.arrays(),
      targets: NdArray.int32([rows, T], targets),
      nextSentence: NdArray.int32([rows], nextSentence),
      tokenCount,
      byteCount,
    };
  }

  async #pair(row: number, seed: number): Promise<{ a: Int32Array; b: Int32Array; isNext: boolean }> {
    const epoch = Math.floor(row / this.count);
    if (this.#order?.epoch !== epoch) {
      this.#order = { epoch, pieces: randomFor(seed, epoch).shuffle([...this.#pieces.keys()]) };
    }
    const random = randomFor(seed, epoch, 1 + (row % this.count));
    const piece = this.#pieces[this.#order.pieces[row % this.count] as number] as Piece;
    const ids = await this.#documents.source.read(piece.start, piece.end);
    const at = this.#cut(ids, random);
    const isNext = random.uniform() < 0.5;
    if (isNext) return { a: ids.subarray(0, at), b: ids.subarray(at), isNext };
    const other = this.#other(piece, random);
    const length = Math.min(other.end - other.start, ids.length - at);
    return { a: ids.subarray(0, at), b: await this.#documents.source.read(other.start, other.start + length), isNext };
  }

  /** Where a piece is cut in two: after one of its sentences, else anywhere. */
  #cut(ids: Int32Array, random: HostRandom): number {
    const ends: number[] = [];
    for (let i = 1; i < ids.length; i++) if (this.#isEnd[ids[i - 1] as number] === 1) ends.push(i);
    return ends.length > 0 ? (ends[random.int(ends.length)] as number) : 1 + random.int(ids.length - 1);
  }

  /** A piece of another document. */
  #other({ document }: Piece, random: HostRandom): Piece {
    for (;;) {
      const piece = this.#pieces[random.int(this.count)] as Piece;
      if (piece.document !== document) return piece;
    }
  }
}

/** Pieces of at least two tokens, without the token that ends a document. */
function cutPieces({ source, starts, count }: TokenDocuments, room: number): Piece[] {
  const pieces: Piece[] = [];
  const atEnd = source.eosId === undefined ? 0 : 1;
  for (let document = 0; document < count; document++) {
    const limit = (starts[document + 1] as number) - atEnd;
    for (let start = starts[document] as number; start + 2 <= limit; start += room) {
      const end = Math.min(start + room, limit);
      if (end - start >= 2) pieces.push({ document, start, end });
    }
  }
  return pieces;
}
