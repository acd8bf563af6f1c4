import type { Encoded } from "../data/index.ts";
import { type HeadResult, type RunOptions, runHead } from "../generate/index.ts";
import type { Model } from "../models/index.ts";

/** What a model's head says of texts, in their order. */
export async function headResults(model: Model, texts: readonly Encoded[], run: RunOptions): Promise<HeadResult[]> {
  const inputs = texts.map(({ ids, typeIds }) => ({ ids, types: Uint8Array.from(typeIds) }));
  return runHead(model, inputs, run);
}

/** What a model's head says of one text. */
export async function headResult(model: Model, text: Encoded, run: RunOptions): Promise<HeadResult> {
  return (await headResults(model, [text], run))[0] as HeadResult;
}

/** exp(x) over its sum, in float64. */
export function softmax(x: ArrayLike<number>): number[] {
  const values = Array.from(x);
  const top = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = values.map((value) => Math.exp(value - top));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** Places of the `k` largest values, largest first; of equals the first. */
export function topK(values: readonly number[], k: number): number[] {
  const order = values.map((_, i) => i).sort((a, b) => (values[b] as number) - (values[a] as number) || a - b);
  return order.slice(0, k);
}
