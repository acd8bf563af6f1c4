import { defineOp, type OpDef, type OpSample } from "../ir/op.ts";
import { apply1, type Tensor } from "../ir/tensor.ts";
import { div, mul, sub } from "./arithmetic.ts";
import { toFloat32 } from "./cast.ts";
import { max } from "./max.ts";
import { stopGradient } from "./stop-gradient.ts";
import { sum } from "./sum.ts";
import { at, expectDType, fail, formatType } from "./support.ts";
import { exp, log } from "./unary.ts";

const last = { axes: [-1], keepDims: true } as const;

const samples: readonly OpSample[] = [
  { name: "normal", inputs: [{ shape: [4, 8], dtype: "float32" }] },
  { name: "odd", inputs: [{ shape: [3, 5, 13], dtype: "float32" }] },
  { name: "larger", inputs: [{ shape: [9, 1003], dtype: "float32" }] },
  { name: "large values", inputs: [{ shape: [3, 7], dtype: "float32", low: 80, high: 120 }] },
  { name: "empty", inputs: [{ shape: [0, 4], dtype: "float32" }] },
  { name: "size-1", inputs: [{ shape: [1], dtype: "float32" }] },
];

function define(name: string, formula: (x: Tensor) => Tensor, gradient: (dy: Tensor, y: Tensor) => Tensor): OpDef {
  return defineOp({
    name,
    infer: (inputs) => {
      const x = at(inputs, 0, name);
      expectDType(x, "float32", name, "a tensor");
      if (x.shape.length === 0) fail(name, "at least one axis", formatType(x), "reshape it to [..., V]");
      return [x];
    },
    decompose: ([x]) => [formula(x as Tensor)],
    gradient: ({ outputs: [y], cotangents: [dy] }) => [dy === undefined ? undefined : gradient(dy, y as Tensor)],
    lower: { kind: "decompose" },
    samples,
  });
}

/** x minus its largest element per row, so that no exponential overflows. */
const shifted = (x: Tensor) => sub(x, stopGradient(max(x, last)));

export const softmaxOp = define(
  "softmax",
  (x) => {
    const e = exp(shifted(x));
    return div(e, sum(e, last));
  },
  (dy, y) => mul(y, sub(dy, sum(mul(dy, y), last))),
);

export const logSoftmaxOp = define(
  "logSoftmax",
  (x) => {
    const z = shifted(x);
    return sub(z, log(sum(exp(z), last)));
  },
  (dy, y) => sub(dy, mul(exp(y), sum(dy, last))),
);

/** Softmax over the last axis, in float32. */
export function softmax(x: Tensor): Tensor {
  return apply1(softmaxOp, [toFloat32(x)]);
}

/** Logarithm of the softmax over the last axis, in float32. */
export function logSoftmax(x: Tensor): Tensor {
  return apply1(logSoftmaxOp, [toFloat32(x)]);
}
