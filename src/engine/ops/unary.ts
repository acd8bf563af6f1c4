import type { OpDef, OpSample } from "../ir/op.ts";
import { apply1, type Tensor } from "../ir/tensor.ts";
import { div, mul, neg, sub } from "./arithmetic.ts";
import { less } from "./compare.ts";
import { defineElementwise, unarySamples } from "./elementwise.ts";
import { select } from "./select.ts";
import { type TensorLike, toTensor } from "./source.ts";
import { erf as erfNumber } from "./special.ts";

/** One-line ops: `derivative` gives dx from dy, the operand x and the result y; "flat" where it is 0 almost everywhere. */
function unary(
  name: string,
  opcode: string,
  evaluate: (x: number) => number,
  derivative: ((dy: Tensor, x: Tensor, y: Tensor) => Tensor) | "flat",
  samples: readonly OpSample[] = unarySamples(),
): OpDef {
  return defineElementwise({
    name,
    arity: 1,
    opcode,
    evaluate,
    gradient: ({ inputs: [x], outputs: [y], cotangents: [dy] }) => [
      dy === undefined || derivative === "flat" ? undefined : derivative(dy, x as Tensor, y as Tensor),
    ],
    samples,
  });
}

const positive = unarySamples({ low: 0.1, high: 4 });
const atJumps = unarySamples({ noGradientCheck: "the function jumps or bends, and samples may sit near it" });

const absOp = unary("abs", "abs", Math.abs, (dy, x) => mul(dy, sign(x)), atJumps);
const expOp = unary("exp", "exp", Math.exp, (dy, _, y) => mul(dy, y));
const logOp = unary("log", "log", Math.log, (dy, x) => div(dy, x), positive);
const sqrtOp = unary("sqrt", "sqrt", Math.sqrt, (dy, _, y) => div(mul(dy, 0.5), y), positive);
const rsqrtOp = unary(
  "rsqrt",
  "rsqrt",
  (x) => 1 / Math.sqrt(x),
  (dy, _, y) => mul(dy, mul(-0.5, mul(y, mul(y, y)))),
  positive,
);
const reciprocalOp = unary(
  "reciprocal",
  "reciprocal",
  (x) => 1 / x,
  (dy, _, y) => neg(mul(dy, mul(y, y))),
  positive,
);
const squareOp = unary(
  "square",
  "square",
  (x) => x * x,
  (dy, x) => mul(dy, mul(2, x)),
);
const tanhOp = unary("tanh", "tanh", Math.tanh, (dy, _, y) => mul(dy, sub(1, mul(y, y))));
const sigmoidOp = unary(
  "sigmoid",
  "sigmoid",
  (x) => 1 / (1 + Math.exp(-x)),
  (dy, _, y) => mul(dy, mul(y, sub(1, y))),
);
const sinOp = unary("sin", "sin", Math.sin, (dy, x) => mul(dy, cos(x)), unarySamples({ low: -30, high: 30 }));
const cosOp = unary("cos", "cos", Math.cos, (dy, x) => neg(mul(dy, sin(x))), unarySamples({ low: -30, high: 30 }));
const erfOp = unary("erf", "erf", erfNumber, (dy, x) => mul(dy, mul(2 / Math.sqrt(Math.PI), exp(neg(square(x))))));
const floorOp = unary("floor", "floor", Math.floor, "flat", atJumps);
const signOp = unary("sign", "sign", Math.sign, "flat", atJumps);
const reluOp = unary(
  "relu",
  "relu",
  (x) => Math.max(x, 0),
  (dy, x) => select(less(0, x), dy, 0),
  atJumps,
);

function call(op: OpDef): (x: TensorLike) => Tensor {
  return (x) => apply1(op, [toTensor(x)]);
}

/** |x|; derivative 0 at 0. */
export const abs = call(absOp);
/** e^x. */
export const exp = call(expOp);
/** Natural logarithm. */
export const log = call(logOp);
/** Square root. */
export const sqrt = call(sqrtOp);
/** 1 / sqrt(x). */
export const rsqrt = call(rsqrtOp);
/** 1 / x. */
export const reciprocal = call(reciprocalOp);
/** x * x. */
export const square = call(squareOp);
/** Hyperbolic tangent. */
export const tanh = call(tanhOp);
/** 1 / (1 + e^-x). */
export const sigmoid = call(sigmoidOp);
/** Sine of radians. */
export const sin = call(sinOp);
/** Cosine of radians. */
export const cos = call(cosOp);
/** Gauss error function. */
export const erf = call(erfOp);
/** Largest integer not above x; derivative 0. */
export const floor = call(floorOp);
/** -1, 0 or 1; derivative 0. */
export const sign = call(signOp);
/** max(x, 0); derivative 0 at 0. */
export const relu = call(reluOp);
