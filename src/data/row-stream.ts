import { HostRandom } from "../engine/index.ts";
import { type Chunk, ChunkIndex, packBestFit, type Row } from "./packing.ts";
import type { TokenDocuments } from "./token-documents.ts";

/** Rows packed together: large enough to fill rows well, small enough to pack again when resuming. */
const windowRows = 512;

/** Random numbers of their own for each purpose and time: the path picks a key, step by step. */
export function randomFor(seed: number, ...path: readonly number[]): HostRandom {
  let random = new HostRandom(seed);
  for (const n of path) {
    const at = new HostRandom({ key: random.state().key, counter: 4 * n });
    random = new HostRandom({ key: [at.word(), at.word()], counter: 0 });
  }
  return random;
}

/** Epoch, place of the window's first chunk in the epoch's order, and rows of the window already used. */
export type RowPosition = { readonly epoch: number; readonly first: number; readonly used: number };

/**
 * The packed rows of one component, epoch after epoch. Chunks are shuffled, not documents: a document of a thousand rows is
 * spread over the epoch instead of being all that is seen for a while.
 */
export class RowStream {
  readonly documents: TokenDocuments;
  readonly #options: { readonly context: number; readonly seed: number; readonly component: number };
  #position: RowPosition = { epoch: 0, first: 0, used: 0 };
  readonly #chunks: ChunkIndex;
  #order: { readonly epoch: number; readonly chunks: Uint32Array } | undefined;
  #window:
    | { readonly epoch: number; readonly first: number; readonly end: number; readonly rows: readonly Row[] }
    | undefined;

  constructor(documents: TokenDocuments, options: { context: number; seed: number; component: number }) {
    this.documents = documents;
    this.#options = options;
    this.#chunks = new ChunkIndex(documents, options.context);
  }

  next(): Row {
    for (;;) {
      const { epoch, first, used } = this.#position;
      const window = this.#pack(epoch, first);
      const row = window.rows[used];
      if (row !== undefined) {
        this.#position = { epoch, first, used: used + 1 };
        return row;
      }
      const over = window.end >= this.#chunks.count;
      this.#position = over ? { epoch: epoch + 1, first: 0, used: 0 } : { epoch, first: window.end, used: 0 };
    }
  }

  /** The rows of the first epoch, none when there is nothing to predict; leaves the position where it is. */
  *firstEpoch(): Generator<Row> {
    for (let first = 0; first < this.#chunks.count; ) {
      const window = this.#pack(0, first);
      yield* window.rows;
      first = window.end;
    }
  }

  state(): RowPosition {
    return this.#position;
  }

  restore(position: RowPosition): void {
    this.#position = { ...position };
  }

  #pack(epoch: number, first: number) {
    if (this.#window?.epoch === epoch && this.#window.first === first) return this.#window;
    const { context, seed, component } = this.#options;
    if (this.#order?.epoch !== epoch) {
      const order = Uint32Array.from({ length: this.#chunks.count }, (_, i) => i);
      this.#order = { epoch, chunks: randomFor(seed, component, epoch, 0).shuffle(order) };
    }
    const chunks: Chunk[] = [];
    let slots = 0;
    let end = first;
    while (end < this.#chunks.count && slots < windowRows * context) {
      const chunk = this.#chunks.at(this.#order.chunks[end++] as number);
      if (chunk === undefined) continue;
      chunks.push(chunk);
      slots += chunk.length;
    }
    const rows = randomFor(seed, component, epoch, 1 + first).shuffle(packBestFit(chunks, context));
    this.#window = { epoch, first, end, rows };
    return this.#window;
  }
}
