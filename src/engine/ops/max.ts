import { defineOp, type Oracle } from "../ir/op.ts";
import { formatShape } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { div, mul } from "./arithmetic.ts";
import { cast, toFloat32 } from "./cast.ts";
import { equal } from "./compare.ts";
import { evaluateReduce, inferReduce, type ReduceOptions, reduceAttrs, reduceSamples, sum, unreduce } from "./sum.ts";
import { at, expectDType, fail, intsOf, oracle } from "./support.ts";

/** Largest element over axes; -inf of none. attrs: {axes, keepDims}. */
export const maxOp = defineOp({
  name: "max",
  infer: (inputs, attrs) => inferReduce(inputs, attrs, "max"),
  evaluate: ([x], attrs, [type]) => [
    evaluateReduce(x as Oracle, attrs, type as TensorType, Number.NEGATIVE_INFINITY, Math.max),
  ],
  gradient: ({ node, inputs, outputs: [y], cotangents: [dy] }) => {
    if (dy === undefined) return [undefined];
    const x = inputs[0] as Tensor;
    const axes = intsOf(node.attrs["axes"]);
    const hits = cast(equal(x, unreduce(y as Tensor, x.shape, axes)), "float32");
    // Elements that tie for the maximum share its gradient.
    const share = div(hits, sum(hits, { axes, keepDims: true }));
    return [mul(share, unreduce(dy, x.shape, axes))];
  },
  lower: { kind: "kernel", kernel: "reduce", ints: (node) => [1, ...intsOf(node.attrs["axes"])], strided: [0] },
  samples: reduceSamples,
});

/** Position of the first largest element of the last axis. */
export const argmaxOp = defineOp({
  name: "argmax",
  infer: (inputs) => {
    const x = at(inputs, 0, "argmax");
    expectDType(x, "float32", "argmax", "a tensor");
    if (x.shape.length === 0 || (x.shape.at(-1) === 0 && !x.shape.slice(0, -1).includes(0))) {
      fail("argmax", "a last axis with elements", formatShape(x.shape), "check the shape");
    }
    return [{ shape: x.shape.slice(0, -1), dtype: "int32" }];
  },
  evaluate: ([x], _, [type]) => {
    const { data, shape } = x as Oracle;
    const width = shape.at(-1) as number;
    const out = oracle(type as TensorType);
    for (let row = 0; row < out.data.length; row++) {
      let best = 0;
      for (let i = 1; i < width; i++) {
        if ((data[row * width + i] as number) > (data[row * width + best] as number)) best = i;
      }
      out.data[row] = best;
    }
    return [out];
  },
  gradient: { noGradient: "a position does not vary smoothly with the values" },
  lower: { kind: "kernel", kernel: "argmax" },
  samples: [
    { name: "normal", inputs: [{ shape: [4, 8], dtype: "float32" }] },
    { name: "empty", inputs: [{ shape: [0, 3], dtype: "float32" }] },
    { name: "size-1", inputs: [{ shape: [1], dtype: "float32" }] },
    { name: "odd", inputs: [{ shape: [3, 5, 13], dtype: "float32" }] },
    { name: "larger", inputs: [{ shape: [3, 5003], dtype: "float32" }] },
    { name: "ties take the first", inputs: [{ shape: [2, 3], dtype: "float32", values: [1, 2, 2, 3, 3, 1] }] },
  ],
});

/** Largest element over axes (default all); -inf where there is none. Ties share the gradient. */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return apply1(maxOp, [toFloat32(x)], reduceAttrs(x, options, "max"));
}

/** Mean over axes (default all), accumulated in float32. */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = intsOf(reduceAttrs(x, options, "mean")["axes"]);
  const count = axes.reduce((n, axis) => n * (x.shape[axis] as number), 1);
  return mul(sum(x, options), 1 / count);
}

/** x[..., V] -> int32[...], the index of the first largest element of the last axis. */
export function argmax(x: Tensor): Tensor {
  return apply1(argmaxOp, [toFloat32(x)]);
}
