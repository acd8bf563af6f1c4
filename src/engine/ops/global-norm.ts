import { defineOp, type OpDef, type Oracle } from "../ir/op.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { mul } from "./arithmetic.ts";
import { toFloat32 } from "./cast.ts";
import { reshape } from "./reshape.ts";
import { slice } from "./slice.ts";
import { scalar } from "./source.ts";
import { concat } from "./split.ts";
import { sum } from "./sum.ts";
import { expectDType, oracle } from "./support.ts";
import { square } from "./unary.ts";
import { zeros } from "./zeros.ts";

/** n float32 tensors of any shapes -> float32[n]: the sum of the squares of each, in one pass over all of them. */
export const sumSquaresOp: OpDef = defineOp({
  name: "sumSquares",
  infer: (inputs) => {
    inputs.forEach((type, i) => {
      expectDType(type, "float32", "sumSquares", `tensor ${i}`);
    });
    return [{ shape: [inputs.length], dtype: "float32" }];
  },
  evaluate: (inputs, _, [type]) => [
    oracle(
      type as TensorType,
      Float64Array.from(inputs, ({ data }: Oracle) => data.reduce((total, x) => total + x * x, 0)),
    ),
  ],
  decompose: (inputs) => [
    inputs.length === 0
      ? zeros([0])
      : concat(
          inputs.map((x) => reshape(sum(square(x)), [1])),
          { axis: 0 },
        ),
  ],
  gradient: ({ inputs, cotangents: [dy] }) =>
    inputs.map((x, i) =>
      dy === undefined ? undefined : mul(mul(x, scalar(2)), reshape(slice(dy, { starts: [i], limits: [i + 1] }), [])),
    ),
  lower: { kind: "kernel", kernel: "sum_squares" },
  samples: [
    ["normal", [[4, 8], [16]]],
    ["odd", [[7, 13], [3], []]],
    ["empty", [[0], [0, 3]]],
    ["size-1", [[1]]],
    ["larger", [[201, 333], [129]]],
  ].map(([name, shapes]) => ({
    name: name as string,
    inputs: (shapes as number[][]).map((shape) => ({ shape, dtype: "float32" as const })),
  })),
});

/**
 * The sum of the squares of each tensor, float32[n]; the global norm is the root of their sum. One pass over all tensors,
 * partial sums of fixed size in double precision, so that the bits do not depend on the number of threads.
 */
export function sumSquares(tensors: readonly Tensor[]): Tensor {
  return apply1(sumSquaresOp, tensors.map(toFloat32));
}
