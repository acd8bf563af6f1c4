import { apply1, type Tensor } from "../ir/tensor.ts";
import { binaryGradient, mul, sub } from "./arithmetic.ts";
import { less, lessEqual } from "./compare.ts";
import { binarySamples, defineElementwise } from "./elementwise.ts";
import { select } from "./select.ts";
import { type TensorLike, toTensors } from "./source.ts";
import { log } from "./unary.ts";

export const maximumOp = defineElementwise({
  name: "maximum",
  arity: 2,
  opcode: "max",
  intOpcode: "imax",
  evaluate: (a, b) => Math.max(a, b),
  evaluateInt: (a, b) => Math.max(a, b),
  gradient: binaryGradient((dy, a, b) => [() => select(lessEqual(b, a), dy, 0), () => select(lessEqual(b, a), 0, dy)]),
  samples: binarySamples({ dtypes: ["float32", "int32"] }),
});

export const minimumOp = defineElementwise({
  name: "minimum",
  arity: 2,
  opcode: "min",
  intOpcode: "imin",
  evaluate: (a, b) => Math.min(a, b),
  evaluateInt: (a, b) => Math.min(a, b),
  gradient: binaryGradient((dy, a, b) => [() => select(lessEqual(a, b), dy, 0), () => select(lessEqual(a, b), 0, dy)]),
  samples: binarySamples({ dtypes: ["float32", "int32"] }),
});

export const powOp = defineElementwise({
  name: "pow",
  arity: 2,
  opcode: "pow",
  evaluate: (a, b) => a ** b,
  gradient: binaryGradient((dy, a, b, y) => [
    () => mul(dy, mul(b, pow(a, sub(b, 1)))),
    // d/db a^b = a^b log a, and 0 at a = 0 where log would give NaN.
    () => mul(dy, select(less(0, a), mul(y, log(select(less(0, a), a, 1))), 0)),
  ]),
  samples: binarySamples({ low: 0.2, high: 3, second: { low: -2, high: 3 }, tolerance: 2e-5 }),
});

/** The larger of a and b; where they are equal the gradient goes to a. */
export function maximum(a: TensorLike, b: TensorLike): Tensor {
  return apply1(maximumOp, toTensors(a, b));
}
/** The smaller of a and b; where they are equal the gradient goes to a. */
export function minimum(a: TensorLike, b: TensorLike): Tensor {
  return apply1(minimumOp, toTensors(a, b));
}
/** a to the power b; the gradient of b is taken as 0 where a is not positive. */
export function pow(a: TensorLike, b: TensorLike): Tensor {
  return apply1(powOp, toTensors(a, b));
}
