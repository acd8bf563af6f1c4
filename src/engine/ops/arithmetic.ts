import type { OpDef, OpSample, VjpRule } from "../ir/op.ts";
import { apply1, type Tensor } from "../ir/tensor.ts";
import { binarySamples, defineElementwise, type ElementwiseSpec, unarySamples } from "./elementwise.ts";
import { scalar, type TensorLike, toTensor, toTensors } from "./source.ts";
import { sumTo } from "./sum.ts";

/** Makes a gradient rule of a two-operand op; contributions are summed over the axes each operand was repeated on. */
export function binaryGradient(
  rule: (dy: Tensor, a: Tensor, b: Tensor, y: Tensor) => readonly [a: () => Tensor, b: () => Tensor],
): VjpRule {
  return ({ inputs, outputs: [y], cotangents: [dy], needed }) => {
    if (dy === undefined) return [undefined, undefined];
    const [a, b] = inputs as [Tensor, Tensor];
    const [da, db] = rule(dy, a, b, y as Tensor);
    return [needed[0] ? sumTo(da(), a.shape) : undefined, needed[1] ? sumTo(db(), b.shape) : undefined];
  };
}

function arithmetic(
  spec: Pick<ElementwiseSpec, "name" | "opcode" | "gradient" | "evaluate"> & {
    intOpcode: string;
    evaluateInt: (a: number, b: number) => number;
  },
): OpDef {
  const narrow: OpSample = {
    name: "bfloat16 and float16",
    inputs: [
      { shape: [7, 13], dtype: "bfloat16" },
      { shape: [13], dtype: "float16" },
    ],
  };
  return defineElementwise({
    ...spec,
    arity: 2,
    samples: [
      ...binarySamples({ dtypes: ["float32", "int32"] }),
      narrow,
      {
        ...narrow,
        name: "bfloat16",
        tolerance: 1e-2,
        inputs: [0, 1].map(() => ({ shape: [5, 33], dtype: "bfloat16" as const })),
      },
    ],
  });
}

export const addOp = arithmetic({
  name: "add",
  opcode: "add",
  intOpcode: "iadd",
  evaluate: (a, b) => a + b,
  evaluateInt: (a, b) => (a + b) | 0,
  gradient: binaryGradient((dy) => [() => dy, () => dy]),
});

export const subOp = arithmetic({
  name: "sub",
  opcode: "sub",
  intOpcode: "isub",
  evaluate: (a, b) => a - b,
  evaluateInt: (a, b) => (a - b) | 0,
  gradient: binaryGradient((dy) => [() => dy, () => neg(dy)]),
});

export const mulOp = arithmetic({
  name: "mul",
  opcode: "mul",
  intOpcode: "imul",
  evaluate: (a, b) => a * b,
  evaluateInt: (a, b) => Math.imul(a, b),
  gradient: binaryGradient((dy, a, b) => [() => mul(dy, b), () => mul(dy, a)]),
});

export const divOp = defineElementwise({
  name: "div",
  arity: 2,
  opcode: "div",
  evaluate: (a, b) => a / b,
  gradient: binaryGradient((dy, _, b, y) => [() => div(dy, b), () => neg(div(mul(dy, y), b))]),
  samples: binarySamples({ second: { low: 0.5, high: 3 } }),
});

export const negOp = defineElementwise({
  name: "neg",
  arity: 1,
  opcode: "neg",
  evaluate: (a) => -a,
  gradient: ({ cotangents: [dy] }) => [dy === undefined ? undefined : neg(dy)],
  samples: unarySamples(),
});

/** a + b with broadcasting. Floats widen to the wider operand; int32 wraps. */
export function add(a: TensorLike, b: TensorLike): Tensor {
  return apply1(addOp, toTensors(a, b));
}
/** a - b with broadcasting. */
export function sub(a: TensorLike, b: TensorLike): Tensor {
  return apply1(subOp, toTensors(a, b));
}
/** a * b with broadcasting. */
export function mul(a: TensorLike, b: TensorLike): Tensor {
  return apply1(mulOp, toTensors(a, b));
}
/** a / b with broadcasting; floating operands. */
export function div(a: TensorLike, b: TensorLike): Tensor {
  return apply1(divOp, toTensors(a, b));
}
/** -x. */
export function neg(x: TensorLike): Tensor {
  const t = toTensor(x);
  return t.dtype === "int32" ? sub(scalar(0, "int32"), t) : apply1(negOp, [t]);
}
