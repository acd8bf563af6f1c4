import type { Encoded } from "../data/index.ts";
import { jit, NdArray, type Tensor, unflatten } from "../engine/index.ts";
import { bucketLength, bucketRows, jitOptions, perModel, type RunOptions } from "../generate/index.ts";
import type { Model } from "../models/index.ts";

/** What a model says of one text. */
export interface EncodedLogits {
  /** Of the text alone, without what it was padded with: [T,N] of a head for tokens, [N] of one for texts. */
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

type Tensors = Readonly<Record<string, Tensor>>;
type Inputs = Readonly<Record<"tokens" | "segments" | "tokenTypes" | "lastIndex", Tensor>>;

const rowsAtOnce = 8;

const programFor = perModel((model, run) =>
  jit(
    (params: Tensors, { lastIndex, ...inputs }: Inputs) => {
      const reading = model.family.kind === "encoder" ? inputs : { ...inputs, lastIndex };
      return { logits: model.family.forward(unflatten(Object.entries(params)), reading, model.config).logits };
    },
    { ...jitOptions(run), name: "encode" },
  ),
);

/**
 * The logits of texts by whatever head the model has. Texts are padded to lengths that they share with others; what comes of
 * one depends on it alone. Throws PlinthError when a text is longer than the model's context.
 */
export async function encoderLogits(
  model: Model,
  texts: readonly Pick<Encoded, "ids" | "typeIds">[],
  run: RunOptions,
): Promise<EncodedLogits[]> {
  const byLength = new Map<number, number[]>();
  for (const [i, { ids }] of texts.entries()) {
    const length = bucketLength(ids.length, Math.max(ids.length, model.config.contextLength));
    byLength.set(length, [...(byLength.get(length) ?? []), i]);
  }
  const program = programFor(model, run);
  const results = new Array<EncodedLogits>(texts.length);
  for (const [length, members] of byLength) {
    for (let at = 0; at < members.length; at += rowsAtOnce) {
      const part = members.slice(at, at + rowsAtOnce);
      const rows = bucketRows(part.length, rowsAtOnce);
      const of = part.map((i) => texts[i] as (typeof texts)[number]);
      const fill = (value: (text: (typeof texts)[number]) => Int32Array) => {
        const data = new Int32Array(rows * length);
        for (const [row, text] of of.entries()) data.set(value(text), row * length);
        return NdArray.int32([rows, length], data);
      };
      const inputs = {
        tokens: fill(({ ids }) => ids),
        segments: fill(({ ids }) => new Int32Array(ids.length).fill(1)),
        tokenTypes: fill(({ typeIds }) => typeIds),
        lastIndex: NdArray.int32(
          [rows],
          Int32Array.from({ length: rows }, (_, row) => (of[row]?.ids.length ?? 1) - 1),
        ),
      };
      const { logits } = await program(Object.fromEntries(model.params), inputs);
      const data = (await logits.read()) as Float32Array;
      const size = data.length / rows;
      for (const [row, i] of part.entries()) {
        const own = data.subarray(row * size, (row + 1) * size);
        results[i] = trimmed(own, logits.shape.slice(1), (texts[i] as (typeof texts)[number]).ids.length);
      }
    }
  }
  return results;
}

/** Leaves the padding of token logits out. */
function trimmed(data: Float32Array, shape: readonly number[], tokens: number): EncodedLogits {
  if (shape.length === 1) return { shape, data: data.slice() };
  const [, width] = shape as [number, number];
  return { shape: [tokens, width], data: data.slice(0, tokens * width) };
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
