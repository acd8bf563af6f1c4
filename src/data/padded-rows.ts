import { NdArray } from "../engine/index.ts";
import type { Batch } from "./batch.ts";

/** Rows that hold one text (or pair of texts) each and are filled up with padding; segments are 1 for text and 0 for padding. */
export class PaddedRows {
  readonly #context: number;
  readonly #tokens: Int32Array;
  readonly #segments: Int32Array;
  readonly #types: Int32Array;

  constructor(rows: number, { context, pad }: { context: number; pad: number }) {
    this.#context = context;
    this.#tokens = new Int32Array(rows * context).fill(pad);
    this.#segments = new Int32Array(rows * context);
    this.#types = new Int32Array(rows * context);
  }

  /** `types`: 0 or 1 per token; all 0 when absent. */
  set(row: number, ids: ArrayLike<number>, types?: ArrayLike<number>): void {
    const [first, T] = [row * this.#context, this.#context];
    if (ids.length > T) throw new Error(`PaddedRows: a text of ${ids.length} tokens in a row of ${T}. Fix: cut it.`);
    this.#tokens.set(ids, first);
    this.#segments.fill(1, first, first + ids.length);
    if (types !== undefined) this.#types.set(types, first);
  }

  /** int32[rows,context] each. */
  arrays(): Required<Pick<Batch, "tokens" | "segments" | "tokenTypes">> {
    const shape = [this.#tokens.length / this.#context, this.#context];
    const array = (data: Int32Array): NdArray => NdArray.int32(shape, data);
    return { tokens: array(this.#tokens), segments: array(this.#segments), tokenTypes: array(this.#types) };
  }
}
