import { apply1, type Tensor } from "../ir/tensor.ts";
import { defineElementwise } from "./elementwise.ts";
import { scalar, type TensorLike, toTensors } from "./source.ts";
import { sumTo } from "./sum.ts";
import { at, expectDType, promote } from "./support.ts";

/** condition ? a : b. */
export const selectOp = defineElementwise({
  name: "select",
  arity: 3,
  opcode: "select",
  dtype: (inputs) => {
    expectDType(at(inputs, 0, "select"), "bool", "select", "a condition");
    return promote(inputs.slice(1), "select");
  },
  evaluate: (condition, a, b) => (condition !== 0 ? a : b),
  gradient: ({ inputs: [condition, a, b], cotangents: [dy] }) => {
    if (dy === undefined) return [undefined, undefined, undefined];
    const zero = scalar(0, dy.dtype);
    return [
      undefined,
      sumTo(select(condition as Tensor, dy, zero), (a as Tensor).shape),
      sumTo(select(condition as Tensor, zero, dy), (b as Tensor).shape),
    ];
  },
  samples: (
    [
      ["normal", [4, 8], [4, 8], [4, 8]],
      ["empty", [0], [0], [0]],
      ["size-1", [1], [1], [1]],
      ["odd, broadcast condition", [7, 1], [7, 13], [13]],
      ["broadcast branches", [37, 129], [], [129]],
    ] as const
  ).flatMap(([name, condition, a, b]) =>
    (["float32", "int32"] as const).map((dtype) => ({
      name: `${name}, ${dtype}`,
      inputs: [
        { shape: condition, dtype: "bool" as const },
        { shape: a, dtype },
        { shape: b, dtype },
      ],
    })),
  ),
});

/** a where the bool condition holds, else b; all three broadcast. */
export function select(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  return apply1(selectOp, [condition, ...toTensors(a, b)]);
}
