import { vjpOfDecomposition } from "../autodiff/vjp.ts";
import { defineOp, type OpDef } from "../ir/op.ts";
import { apply1, type Tensor } from "../ir/tensor.ts";
import { add, mul, sub } from "./arithmetic.ts";
import { unarySamples } from "./elementwise.ts";
import { at, expectFloating } from "./support.ts";
import { erf, exp, sigmoid, square, tanh } from "./unary.ts";

/** An activation that has an opcode for itself and one for its derivative, both defined by primitives. */
function activation(
  name: string,
  opcode: string,
  define: (x: Tensor) => Tensor,
  derivative: (x: Tensor) => Tensor,
): OpDef {
  const gradOp = composite(`${name}Grad`, `${opcode}_grad`, derivative);
  return composite(name, opcode, define, (x, dy) => mul(dy, apply1(gradOp, [x])));
}

function composite(
  name: string,
  opcode: string,
  define: (x: Tensor) => Tensor,
  gradient?: (x: Tensor, dy: Tensor) => Tensor,
): OpDef {
  const op: OpDef = defineOp({
    name,
    infer: (inputs) => {
      const x = at(inputs, 0, name);
      expectFloating(x, name);
      return [x];
    },
    decompose: ([x]) => [define(x as Tensor)],
    gradient: (context) => {
      const dy = context.cotangents[0];
      if (dy === undefined) return [undefined];
      if (gradient === undefined) return vjpOfDecomposition(op, context);
      return [gradient(context.inputs[0] as Tensor, dy)];
    },
    lower: { kind: "elementwise", opcode: () => opcode },
    samples: unarySamples(),
  });
  return op;
}

const c = Math.sqrt(2 / Math.PI);

export const geluTanhOp = activation(
  "geluTanh",
  "gelu_tanh",
  (x) => mul(mul(0.5, x), add(1, tanh(mul(c, mul(x, add(1, mul(0.044715, square(x)))))))),
  (x) => {
    const t = tanh(mul(c, mul(x, add(1, mul(0.044715, square(x))))));
    const slope = mul(c, add(1, mul(3 * 0.044715, square(x))));
    return add(mul(0.5, add(1, t)), mul(mul(mul(0.5, x), sub(1, square(t))), slope));
  },
);

export const geluErfOp = activation(
  "geluErf",
  "gelu_erf",
  (x) => mul(mul(0.5, x), add(1, erf(mul(x, Math.SQRT1_2)))),
  (x) =>
    add(
      mul(0.5, add(1, erf(mul(x, Math.SQRT1_2)))),
      mul(x, mul(1 / Math.sqrt(2 * Math.PI), exp(mul(-0.5, square(x))))),
    ),
);

export const siluOp = activation(
  "silu",
  "silu",
  (x) => mul(x, sigmoid(x)),
  (x) => {
    const s = sigmoid(x);
    return mul(s, add(1, mul(x, sub(1, s))));
  },
);

/**
 * Gaussian error linear unit (Hendrycks & Gimpel 2016): x times the normal distribution function of x; with
 * `approximate` its tanh form 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
 */
export function gelu(x: Tensor, options: { approximate?: boolean } = {}): Tensor {
  return apply1(options.approximate === true ? geluTanhOp : geluErfOp, [x]);
}

/** x * sigmoid(x) (Elfwing et al. 2017). */
export function silu(x: Tensor): Tensor {
  return apply1(siluOp, [x]);
}
