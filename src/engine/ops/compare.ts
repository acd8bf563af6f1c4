import type { OpDef, OpSample, SampleInput } from "../ir/op.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { binarySamples, defineElementwise, unarySamples } from "./elementwise.ts";
import { type TensorLike, toTensors } from "./source.ts";
import { at, expectDType, expectFloating, promote } from "./support.ts";

const piecewiseConstant = { noGradient: "its result is true or false" } as const;

const tied = [0, 1, -1, 2];

function comparison(name: string, opcode: string, intOpcode: string, test: (a: number, b: number) => boolean): OpDef {
  return defineElementwise({
    name,
    arity: 2,
    opcode,
    intOpcode,
    dtype: (inputs) => {
      if (promote(inputs, name) !== "int32") expectFloating(at(inputs, 0, name), name, "floating or int32 operands");
      return "bool";
    },
    evaluate: (a, b) => (test(a, b) ? 1 : 0),
    gradient: piecewiseConstant,
    samples: [...binarySamples({ dtypes: ["float32", "int32"] }), tiedSample("float32"), tiedSample("int32")],
  });
}

function tiedSample(dtype: SampleInput["dtype"]): OpSample {
  return {
    name: `ties, ${dtype}`,
    inputs: [
      { shape: [4], dtype, values: tied },
      { shape: [4], dtype, values: [0, 2, -1, 1] },
    ],
  };
}

export const lessOp = comparison("less", "lt", "ilt", (a, b) => a < b);
export const lessEqualOp = comparison("lessEqual", "le", "ile", (a, b) => a <= b);
export const equalOp = comparison("equal", "eq", "ieq", (a, b) => a === b);

function allBool(name: string): (inputs: readonly TensorType[]) => "bool" {
  return (inputs) => {
    for (const type of inputs) expectDType(type, "bool", name, "a tensor");
    return "bool";
  };
}

const boolSamples = binarySamples({ dtypes: ["bool"] });

export const logicalAndOp = defineElementwise({
  name: "logicalAnd",
  arity: 2,
  opcode: "and",
  dtype: allBool("logicalAnd"),
  evaluate: (a, b) => (a !== 0 && b !== 0 ? 1 : 0),
  gradient: piecewiseConstant,
  samples: boolSamples,
});

export const logicalOrOp = defineElementwise({
  name: "logicalOr",
  arity: 2,
  opcode: "or",
  dtype: allBool("logicalOr"),
  evaluate: (a, b) => (a !== 0 || b !== 0 ? 1 : 0),
  gradient: piecewiseConstant,
  samples: boolSamples,
});

export const logicalNotOp = defineElementwise({
  name: "logicalNot",
  arity: 1,
  opcode: "not",
  dtype: allBool("logicalNot"),
  evaluate: (a) => (a === 0 ? 1 : 0),
  gradient: piecewiseConstant,
  samples: unarySamples({}).map((s) => ({
    ...s,
    inputs: s.inputs.map((i): SampleInput => ({ ...i, dtype: "bool" })),
  })),
});

/** a < b, elementwise with broadcasting; bool. */
export function less(a: TensorLike, b: TensorLike): Tensor {
  return apply1(lessOp, toTensors(a, b));
}
/** a <= b; bool. */
export function lessEqual(a: TensorLike, b: TensorLike): Tensor {
  return apply1(lessEqualOp, toTensors(a, b));
}
/** a > b; bool. */
export function greater(a: TensorLike, b: TensorLike): Tensor {
  return less(b, a);
}
/** a >= b; bool. */
export function greaterEqual(a: TensorLike, b: TensorLike): Tensor {
  return lessEqual(b, a);
}
/** a = b; bool. */
export function equal(a: TensorLike, b: TensorLike): Tensor {
  return apply1(equalOp, toTensors(a, b));
}
/** a differs from b (true where either is NaN); bool. */
export function notEqual(a: TensorLike, b: TensorLike): Tensor {
  return logicalNot(equal(a, b));
}
/** Both true. Operands and result are bool. */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  return apply1(logicalAndOp, [a, b]);
}
/** Either true. Operands and result are bool. */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  return apply1(logicalOrOp, [a, b]);
}
/** Not x. Operand and result are bool. */
export function logicalNot(x: Tensor): Tensor {
  return apply1(logicalNotOp, [x]);
}
