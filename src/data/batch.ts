import { NdArray } from "../engine/index.ts";
import type { Chunk, Row } from "./packing.ts";
import { countBytes, type TokenDocuments } from "./token-documents.ts";

/** Targets with this value carry no loss. */
export const ignoreIndex = -100;

/** What every objective and evaluator consumes. */
export interface Batch {
  /** int32[B,T] */
  readonly tokens: NdArray;
  /**
   * int32[B,T], the token after each; -100 where there is none to predict. Of labelled texts what their objective reads: int32[B]
   * classes, int32[B,T] a class per token, int32[B,2] where an answer begins and ends, float32[B,n] values.
   */
  readonly targets: NdArray;
  /** int32[B,T], restarting with each document of a row. Absent: 0..T-1. */
  readonly positions?: NdArray;
  /** int32[B,T], documents of a row from 1 on, 0 for padding. Absent: each row is one piece of text. */
  readonly segments?: NdArray;
  /** int32[B,T], pairs of texts: 0 for tokens of the first, 1 for the second. */
  readonly tokenTypes?: NdArray;
  /** int32[B], pairs of texts for pretraining: 0 where the second follows the first, 1 where it does not. */
  readonly nextSentence?: NdArray;
  /** Targets that are not ignored. */
  readonly tokenCount: number;
  /** UTF-8 bytes that those targets stand for: bits per byte = nats / ln 2 / byteCount. Of labelled texts the number of labels. */
  readonly byteCount: number;
}

/** A row of a packed batch and the documents it is from. */
export interface PackedRow {
  readonly documents: TokenDocuments;
  readonly row: Row;
}

/** Reads the rows' tokens into a batch of [rows.length, context]. */
export async function packedBatch(rows: readonly PackedRow[], context: number): Promise<Batch> {
  const size = rows.length * context;
  const tokens = new Int32Array(size);
  const targets = new Int32Array(size).fill(ignoreIndex);
  const positions = new Int32Array(size);
  const segments = new Int32Array(size);
  let tokenCount = 0;
  let byteCount = 0;
  for (const [r, { documents, row }] of rows.entries()) {
    let at = r * context;
    tokens.fill(documents.source.eosId ?? 0, at, at + context);
    for (const [segment, chunk] of row.entries()) {
      const read = await readChunk(documents, chunk);
      tokens.set(read.inputs, at);
      targets.set(read.targets, at);
      for (let i = 0; i < chunk.length; i++) positions[at + i] = i;
      segments.fill(segment + 1, at, at + chunk.length);
      tokenCount += read.tokenCount;
      byteCount += read.byteCount;
      at += chunk.length;
    }
  }
  const shape = [rows.length, context];
  return {
    tokens: NdArray.int32(shape, tokens),
    targets: NdArray.int32(shape, targets),
    positions: NdArray.int32(shape, positions),
    segments: NdArray.int32(shape, segments),
    tokenCount,
    byteCount,
  };
}

async function readChunk(documents: TokenDocuments, { document, start, length }: Chunk) {
  const { bosId, lossMask, tokenBytes, excess } = documents.source;
  const lead = bosId === undefined ? 0 : 1;
  const base = documents.starts[document] as number;
  const withBos = start === 0 && bosId !== undefined;
  const from = base + start - lead + (withBos ? 1 : 0);
  const read = await documents.source.read(from, base + start - lead + length + 1);
  const ids = withBos ? Int32Array.of(bosId, ...read) : read;
  const inputs = ids.subarray(0, length);
  const targets = ids.slice(1);
  let tokenCount = length;
  if (lossMask !== undefined) {
    const first = base + start - lead + 1;
    for (let i = 0; i < length; i++) {
      if (lossMask[first + i] === 1) continue;
      targets[i] = ignoreIndex;
      tokenCount--;
    }
  }
  const spoken = targets.filter((target) => target !== ignoreIndex);
  // What the vocabulary counts too much for this document (SentencePiece's first space) comes off its first chunk.
  const correction = start === 0 && lossMask === undefined ? (excess[document] as number) : 0;
  return { inputs, targets, tokenCount, byteCount: Math.max(0, countBytes(spoken, tokenBytes) - correction) };
}

/** Windows of the stream of all tokens: inputs from each start, targets one further, -100 beyond the end. */
export async function contiguousBatch(
  documents: TokenDocuments,
  starts: readonly number[],
  context: number,
): Promise<Batch> {
  const size = starts.length * context;
  const tokens = new Int32Array(size).fill(documents.source.eosId ?? 0);
  const targets = new Int32Array(size).fill(ignoreIndex);
  let tokenCount = 0;
  let byteCount = 0;
  for (const [row, start] of starts.entries()) {
    const ids = await documents.source.read(start, Math.min(start + context + 1, documents.tokenCount));
    const next = ids.subarray(1);
    tokens.set(ids.subarray(0, next.length), row * context);
    targets.set(next, row * context);
    tokenCount += next.length;
    byteCount += countBytes(next, documents.source.tokenBytes);
  }
  const shape = [starts.length, context];
  return { tokens: NdArray.int32(shape, tokens), targets: NdArray.int32(shape, targets), tokenCount, byteCount };
}
