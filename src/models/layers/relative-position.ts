import {
  add,
  broadcastTo,
  constant,
  expandDims,
  gather,
  iota,
  maximum,
  minimum,
  sub,
  type Tensor,
  transpose,
} from "../../engine/index.ts";

/** How distances between tokens share biases (Raffel et al. 2020, 2.1). */
export interface RelativeBuckets {
  readonly count: number;
  /** From here on all distances are alike. */
  readonly maxDistance: number;
  /** Keys after the query have buckets of their own; otherwise they share the one of distance 0. */
  readonly bidirectional: boolean;
}

/** Where queries and keys stand. */
export interface RelativeSpan {
  readonly queries: number;
  readonly keys: number;
  /** int32[B]: position of the first query among the keys; 0 when absent. */
  readonly start?: Tensor | undefined;
}

/**
 * Bias of every pair of positions from a table[buckets,H] -> [1,H,T,S], or [B,H,T,S] with `start`: half of the buckets are
 * single distances, the others grow with the logarithm of the distance.
 */
export function relativeBias(
  table: Tensor,
  buckets: RelativeBuckets,
  { queries: T, keys: S, start }: RelativeSpan,
): Tensor {
  const { maxDistance: far } = buckets;
  // Key minus query: -far..far, what is further is as far.
  const bucketOf = Int32Array.from({ length: 2 * far + 1 }, (_, i) => relativeBucket(i - far, buckets));
  const byDistance = gather(table, constant(bucketOf, { shape: [2 * far + 1] }));
  const rows = start === undefined ? 1 : (start.shape[0] as number);
  const shape = [rows, T, S];
  const index = (axis: number): Tensor => iota(shape, { axis, dtype: "int32" });
  const first = start === undefined ? index(1) : add(index(1), broadcastTo(expandDims(expandDims(start, 1), 2), shape));
  const distance = minimum(maximum(sub(index(2), first), -far), far);
  return transpose(gather(byDistance, add(distance, far)), [0, 3, 1, 2]);
}

/** Bucket of a key's position minus a query's, in the float32 steps of the reference. */
export function relativeBucket(distance: number, { count, maxDistance, bidirectional }: RelativeBuckets): number {
  const f = Math.fround;
  const own = bidirectional ? Math.floor(count / 2) : count;
  const offset = bidirectional && distance > 0 ? own : 0;
  const steps = bidirectional ? Math.abs(distance) : Math.max(0, -distance);
  const exact = Math.floor(own / 2);
  if (steps < exact) return offset + steps;
  const share = f(f(f(Math.log(f(steps / exact))) / f(Math.log(maxDistance / exact))) * (own - exact));
  return offset + Math.min(own - 1, exact + Math.trunc(share));
}
