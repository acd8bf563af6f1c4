import { PlinthError } from "../../base/index.ts";
import { vjpOfDecomposition } from "../autodiff/vjp.ts";
import { defineOp, type OpDef, type OpSample, type Oracle, type SampleInput } from "../ir/op.ts";
import type { Shape } from "../ir/shape.ts";
import { apply, type Node, type Tensor, type TensorType } from "../ir/tensor.ts";
import { add, mul, sub } from "./arithmetic.ts";
import { cast, toFloat32 } from "./cast.ts";
import { equal } from "./compare.ts";
import { max } from "./max.ts";
import { expandDims, squeeze } from "./reshape.ts";
import { select } from "./select.ts";
import { iota } from "./source.ts";
import { stopGradient } from "./stop-gradient.ts";
import { sum } from "./sum.ts";
import { at, expectDType, expectRank, expectShape, oracle } from "./support.ts";
import { exp, log } from "./unary.ts";

const last = { axes: [-1], keepDims: true } as const;
export const defaultIgnoreIndex = -100;

function check(inputs: readonly TensorType[], op: string): TensorType {
  const logits = at(inputs, 0, op);
  expectRank(logits, 2, op, "logits[N,V]");
  expectDType(logits, "float32", op, "logits");
  const targets = at(inputs, 1, op);
  expectDType(targets, "int32", op, "targets");
  expectShape(targets, logits.shape.slice(0, 1), op, "targets");
  return logits;
}

const f32 = (shape: Shape, more: Partial<SampleInput> = {}): SampleInput => ({ shape, dtype: "float32", ...more });
const targets = (rows: number, width: number, ignored = false): SampleInput => ({
  shape: [rows],
  dtype: "int32",
  values: Array.from({ length: rows }, (_, i) => (ignored && i % 3 === 1 ? defaultIgnoreIndex : (i * 7) % width)),
});
const sizes: readonly (readonly [name: string, rows: number, width: number])[] = [
  ["normal", 4, 8],
  ["odd, some ignored", 7, 13],
  ["empty", 0, 5],
  ["size-1", 1, 1],
  ["larger", 17, 1003],
];
const intsOf = ({ attrs: { ignoreIndex, firstRow } }: Node): number[] =>
  (firstRow === undefined ? [ignoreIndex] : [ignoreIndex, firstRow]) as number[];
const isPicked = (t: Tensor, shape: Shape): Tensor => equal(iota(shape, { axis: 1 }), expandDims(t, 1));

/**
 * Negative log-likelihood of each target and the log-sum-exp of each row. attrs: {ignoreIndex, firstRow?: where the rows
 * lie in what the user passed, for messages}.
 */
export const crossEntropyOp: OpDef = defineOp({
  name: "crossEntropy",
  infer: (inputs) => {
    const rows = { shape: check(inputs, "crossEntropy").shape.slice(0, 1), dtype: "float32" as const };
    return [rows, rows];
  },
  evaluate: ([logits, ids], attrs, [type]) => {
    const { data, shape } = logits as Oracle;
    const [rows, width] = shape as [number, number];
    const [loss, lse] = [oracle(type as TensorType), oracle(type as TensorType)];
    for (let n = 0; n < rows; n++) {
      const row = data.subarray(n * width, (n + 1) * width);
      const top = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
      lse.data[n] = top + Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
      const target = (ids as Oracle).data[n] as number;
      if (target === attrs["ignoreIndex"]) continue;
      if (target < 0 || target >= width) {
        throw new PlinthError(
          `crossEntropy: target ${target} at position ${n + ((attrs["firstRow"] as number) ?? 0)} is outside the vocabulary of ${width}`,
          "check that model and tokenizer belong together",
        );
      }
      loss.data[n] = (lse.data[n] as number) - (row[target] as number);
    }
    return [loss, lse];
  },
  decompose: (inputs, attrs) => {
    const [logits, ids] = inputs as [Tensor, Tensor];
    const top = stopGradient(max(logits, last));
    const lse = squeeze(add(top, log(sum(exp(sub(logits, top)), last))), 1);
    const picked = sum(select(isPicked(ids, logits.shape), logits, 0), { axes: [1] });
    return [select(equal(ids, attrs["ignoreIndex"] as number), 0, sub(lse, picked)), lse];
  },
  gradient: (context) => {
    const { node, inputs, outputs, cotangents } = context;
    const [dloss, dlse] = cotangents;
    if (dloss === undefined || dlse !== undefined) return vjpOfDecomposition(crossEntropyOp, context);
    const [logits, ids] = inputs as [Tensor, Tensor];
    return [apply(crossEntropyGradOp, [logits, ids, outputs[1] as Tensor, dloss], node.attrs)[0], undefined];
  },
  lower: { kind: "kernel", kernel: "cross_entropy", ints: intsOf },
  samples: sizes.map(
    ([name, rows, width]): OpSample => ({
      name,
      inputs: [f32([rows, width]), targets(rows, width, name.includes("ignored"))],
      attrs: { ignoreIndex: defaultIgnoreIndex },
    }),
  ),
});

/** Gradient of {@link crossEntropyOp}: (logits, targets, lse, dloss) -> dlogits. attrs: {ignoreIndex}. */
export const crossEntropyGradOp: OpDef = defineOp({
  name: "crossEntropyGrad",
  infer: (inputs) => [check(inputs, "crossEntropyGrad")],
  decompose: (inputs, attrs) => {
    const [logits, ids, lse, dloss] = inputs as [Tensor, Tensor, Tensor, Tensor];
    const counted = select(equal(ids, attrs["ignoreIndex"] as number), 0, dloss);
    const excess = sub(exp(sub(logits, expandDims(lse, 1))), cast(isPicked(ids, logits.shape), "float32"));
    return [mul(excess, expandDims(counted, 1))];
  },
  gradient: (context) => vjpOfDecomposition(crossEntropyGradOp, context),
  lower: {
    kind: "kernel",
    kernel: "cross_entropy_grad",
    ints: intsOf,
    narrowOutputs: [0],
    inPlace: [[0, 0]],
  },
  samples: sizes.map(
    ([name, rows, width]): OpSample => ({
      name,
      inputs: [
        f32([rows, width]),
        targets(rows, width, name.includes("ignored")),
        f32([rows], { low: 2, high: 4 }),
        f32([rows]),
      ],
      attrs: { ignoreIndex: defaultIgnoreIndex },
    }),
  ),
});

/**
 * logits[N,V], targets int32[N] -> loss[N]: -log softmax(logits)[target], 0 where the target is `ignoreIndex`
 * (default -100). float32.
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: { ignoreIndex?: number } = {}): Tensor {
  const attrs = { ignoreIndex: options.ignoreIndex ?? defaultIgnoreIndex };
  return apply(crossEntropyOp, [toFloat32(logits), targets], attrs)[0] as Tensor;
}
