/**
 * The length a program is compiled for, so that prompts of similar length share one: powers of two and the steps
 * halfway between them, from 16, and never more than `cap`.
 */
export function bucketLength(length: number, cap: number): number {
  let bucket = 16;
  while (bucket < length) {
    const half = bucket + bucket / 2;
    if (bucket >= 32 && half >= length) {
      bucket = half;
      break;
    }
    bucket *= 2;
  }
  return Math.min(bucket, cap);
}

/** Smallest power of two that is at least `count`, and never more than `cap`. */
export function bucketRows(count: number, cap: number): number {
  let rows = 1;
  while (rows < count) rows *= 2;
  return Math.min(rows, cap);
}

/** A piece of a prompt that goes through the model in one call. */
export interface PrefillChunk {
  /** Position of its first token. */
  readonly start: number;
  /** Real tokens in it. */
  readonly count: number;
  /** Length of the program: the count and padding to its right. */
  readonly length: number;
}

const longestChunk = 512;

/** Cuts a prompt of `length` tokens into chunks, padded to shared lengths that stay inside the context. */
export function prefillChunks(length: number, context: number): PrefillChunk[] {
  const chunks: PrefillChunk[] = [];
  for (let start = 0; start < length; start += longestChunk) {
    const count = Math.min(longestChunk, length - start);
    chunks.push({ start, count, length: bucketLength(count, Math.min(longestChunk, context - start)) });
  }
  return chunks;
}
