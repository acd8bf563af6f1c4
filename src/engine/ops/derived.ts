import type { DType } from "../ir/dtype.ts";
import { defineOp, type OpDef } from "../ir/op.ts";
import { apply1, type Tensor } from "../ir/tensor.ts";
import { add, div, mul, neg, sub } from "./arithmetic.ts";
import { cast, toFloat32 } from "./cast.ts";
import { equal } from "./compare.ts";
import { unarySamples } from "./elementwise.ts";
import { argmax, max } from "./max.ts";
import { expandDims, reshape } from "./reshape.ts";
import { iota } from "./source.ts";
import { stopGradient } from "./stop-gradient.ts";
import { type ReduceOptions, sum } from "./sum.ts";
import { at, expectFloating } from "./support.ts";
import { abs, exp, log, relu, sigmoid, tanh } from "./unary.ts";

// Short functions over other ops, one line each.

/** Smallest element over axes (default all); inf where there is none. Ties share the gradient. */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return neg(max(neg(x), options));
}

/** x[..., V] -> int32[...], the index of the first smallest element of the last axis. */
export function argmin(x: Tensor): Tensor {
  return argmax(neg(x));
}

/** log(sum(e^x)) over axes (default all), without overflow. float32. */
export function logSumExp(x: Tensor, options: ReduceOptions = {}): Tensor {
  const values = toFloat32(x);
  const top = stopGradient(max(values, { ...options, keepDims: true }));
  const total = log(sum(exp(sub(values, top)), options));
  return add(total, reshape(top, total.shape));
}

/** ids int32[...] -> [..., depth]: 1 where the last axis counts the id, else 0; all 0 for an id outside. */
export function oneHot(ids: Tensor, depth: number, dtype: DType = "float32"): Tensor {
  return cast(equal(expandDims(ids, -1), iota([...ids.shape, depth], { axis: ids.rank })), dtype);
}

/** cap * tanh(x / cap), which keeps x within (-cap, cap) (Bello et al. 2017). */
export function softCap(x: Tensor, cap: number): Tensor {
  return mul(tanh(div(x, cap)), cap);
}

/** log(sigmoid(x)) = min(x, 0) - log(1 + e^-|x|). */
const logSigmoidOp: OpDef = defineOp({
  name: "logSigmoid",
  infer: (inputs) => {
    const x = at(inputs, 0, "logSigmoid");
    expectFloating(x, "logSigmoid");
    return [x];
  },
  decompose: ([x]) => [neg(add(relu(neg(x as Tensor)), log(add(exp(neg(abs(x as Tensor))), 1))))],
  gradient: ({ inputs: [x], cotangents: [dy] }) => [dy === undefined ? undefined : mul(dy, sigmoid(neg(x as Tensor)))],
  lower: { kind: "decompose" },
  samples: unarySamples({ low: -8, high: 8 }),
});

/** log(sigmoid(x)), without overflow. */
export function logSigmoid(x: Tensor): Tensor {
  return apply1(logSigmoidOp, [x]);
}

/** log(1 + e^x), a smooth relu, without overflow. */
export function softplus(x: Tensor): Tensor {
  return neg(logSigmoid(neg(x)));
}

/** x tanh(softplus(x)) (Misra 2019). */
export function mish(x: Tensor): Tensor {
  return mul(x, tanh(softplus(x)));
}
