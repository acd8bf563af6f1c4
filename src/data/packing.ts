import type { TokenDocuments } from "./token-documents.ts";

/**
 * A piece of a document that fits a row: inputs are `length` tokens of `bos? + document` from `start` on, targets the
 * tokens one further. Pieces of a document overlap by one token, so that each token is a target once.
 */
export interface Chunk {
  readonly document: number;
  readonly start: number;
  readonly length: number;
}

/** Chunks that share a row of a batch, each seeing only itself. */
export type Row = readonly Chunk[];

export interface PackingReport {
  readonly documents: number;
  /** Documents longer than the context, which were cut into chunks. */
  readonly splitDocuments: number;
  readonly chunks: number;
  /** Targets of one epoch. */
  readonly targets: number;
}

/** Inputs that a document offers: its tokens, with BOS if there is one, less the last. */
function slotsOf(documents: TokenDocuments, document: number): number {
  const { lengths, bosId } = documents.source;
  return Math.max(0, (lengths[document] as number) + (bosId === undefined ? 0 : 1) - 1);
}

/** The chunks of one document; those without a single target (loss mask) are left out. */
export function chunksOf(documents: TokenDocuments, document: number, context: number): Chunk[] {
  const count = Math.ceil(slotsOf(documents, document) / context);
  return Array.from({ length: count }, (_, i) => chunkOf(documents, document, i, context)).filter(
    (chunk) => chunk !== undefined,
  );
}

/** The n-th chunk of a document, or undefined when it has no target. */
function chunkOf(documents: TokenDocuments, document: number, n: number, context: number): Chunk | undefined {
  const start = n * context;
  const chunk = { document, start, length: Math.min(context, slotsOf(documents, document) - start) };
  return hasTarget(documents, chunk) ? chunk : undefined;
}

/** All chunks of a collection by number, in the order of the documents. */
export class ChunkIndex {
  readonly count: number;
  readonly #documents: TokenDocuments;
  readonly #context: number;
  /** Number of each document's first chunk. */
  readonly #firsts: Uint32Array;

  constructor(documents: TokenDocuments, context: number) {
    this.#documents = documents;
    this.#context = context;
    this.#firsts = new Uint32Array(documents.count);
    let count = 0;
    for (let document = 0; document < documents.count; document++) {
      this.#firsts[document] = count;
      count += Math.ceil(slotsOf(documents, document) / context);
    }
    this.count = count;
  }

  /** The chunk of this number, or undefined when it has no target. */
  at(number: number): Chunk | undefined {
    // The last document whose first chunk is not beyond the number.
    let [low, high] = [0, this.#firsts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#firsts[middle] as number) <= number) low = middle;
      else high = middle - 1;
    }
    return chunkOf(this.#documents, low, number - (this.#firsts[low] as number), this.#context);
  }
}

function hasTarget(documents: TokenDocuments, { document, start, length }: Chunk): boolean {
  const { lossMask, bosId } = documents.source;
  if (lossMask === undefined) return true;
  const first = (documents.starts[document] as number) + start + (bosId === undefined ? 1 : 0);
  return lossMask.subarray(first, first + length).includes(1);
}

/** What packing does to these documents at this context. */
export function packingReport(documents: TokenDocuments, context: number): PackingReport {
  let splitDocuments = 0;
  let chunks = 0;
  let targets = 0;
  for (let document = 0; document < documents.count; document++) {
    const slots = slotsOf(documents, document);
    if (slots > context) splitDocuments++;
    chunks += Math.ceil(slots / context);
    targets += slots;
  }
  return { documents: documents.count, splitDocuments, chunks, targets };
}

/**
 * Best-fit decreasing: the longest chunk first, each into the fullest row that still has room (Johnson 1973). No chunk
 * is cut or dropped.
 */
export function packBestFit(chunks: readonly Chunk[], context: number): Row[] {
  const rows: Chunk[][] = [];
  const withRoom: number[][] = Array.from({ length: context + 1 }, () => []); // rows by the room they have left
  const byLength = [...chunks].sort((a, b) => b.length - a.length || a.document - b.document || a.start - b.start);
  for (const chunk of byLength) {
    let room = chunk.length;
    while (room <= context && (withRoom[room] as number[]).length === 0) room++;
    let row: number;
    if (room > context) {
      row = rows.push([chunk]) - 1;
      room = context;
    } else {
      row = (withRoom[room] as number[]).pop() as number;
      (rows[row] as Chunk[]).push(chunk);
    }
    if (room > chunk.length) (withRoom[room - chunk.length] as number[]).push(row);
  }
  return rows;
}
