import { type Batch, contiguousBatch, packedBatch } from "./batch.ts";
import type { Row } from "./packing.ts";
import { RowStream } from "./row-stream.ts";
import type { TokenDocuments } from "./token-documents.ts";

export interface HeldOutOptions {
  readonly batchSize: number;
  readonly context: number;
  readonly mode?: "packed" | "contiguous";
  /** Stops after so many batches. */
  readonly maxBatches?: number;
}

/**
 * One pass over documents, every target once, the same batches each time it is iterated. The last batch may have fewer
 * rows filled; the rest of them is padding without targets, so that every batch has the same shape. With `maxBatches` the
 * batches are a sample of all documents (packed) or of the whole stream (contiguous), not its beginning.
 */
export function heldOutBatches(documents: TokenDocuments, options: HeldOutOptions): AsyncIterable<Batch> {
  const { batchSize, context, mode = "packed", maxBatches = Number.POSITIVE_INFINITY } = options;
  const fill = <T>(rows: readonly T[], padding: T): T[] => [
    ...rows,
    ...Array<T>(batchSize - rows.length).fill(padding),
  ];
  return {
    async *[Symbol.asyncIterator]() {
      if (mode === "contiguous") {
        for (const starts of groups(windows(documents, options), batchSize)) {
          yield await contiguousBatch(documents, fill(starts, documents.tokenCount), context);
        }
        return;
      }
      let batches = 0;
      const stream = new RowStream(documents, { context, seed: 0, component: 0 });
      for (const rows of groups(stream.firstEpoch(), batchSize)) {
        if (batches++ >= maxBatches) return;
        const filled = fill<Row>(rows, []).map((row) => ({ documents, row }));
        yield await packedBatch(filled, context);
      }
    },
  };
}

/** Where windows start: side by side over the stream, or as many as are wanted at even distances. */
function* windows(documents: TokenDocuments, { batchSize, context, maxBatches }: HeldOutOptions): Generator<number> {
  const all = Math.ceil((documents.tokenCount - 1) / context);
  const wanted = Math.min(all, (maxBatches ?? Number.POSITIVE_INFINITY) * batchSize);
  for (let i = 0; i < wanted; i++) yield Math.floor((i * all) / wanted) * context;
}

function* groups<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let group: T[] = [];
  for (const item of items) {
    if (group.push(item) < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}
