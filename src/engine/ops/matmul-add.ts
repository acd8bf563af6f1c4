import { defineOp, type OpSample, type VjpRule } from "../ir/op.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { add } from "./arithmetic.ts";
import { matmulOp } from "./matmul.ts";
import { at, expectDType, expectRank, expectShape } from "./support.ts";

function sample(name: string, [M, K, N]: readonly [number, number, number], operands?: "bfloat16"): OpSample {
  const shapes = [
    [M, K],
    [K, N],
    [M, N],
  ];
  return {
    name,
    inputs: shapes.map((shape) => ({ shape, dtype: "float32" as const })),
    tolerance: 1e-4,
    ...(operands === undefined
      ? {}
      : { attrs: { operands }, noGradientCheck: "a rounded operand is piecewise constant" }),
  };
}

/**
 * (a[M,K], b[K,N], c[M,N]) -> c + a b, in place on c where it is read no more. Made by the compiler of sums of products.
 * attrs as the product's.
 */
export const matmulAddOp = defineOp({
  name: "matmulAdd",
  infer: (inputs, attrs) => {
    const [product] = matmulOp.infer(inputs.slice(0, 2), attrs) as [TensorType];
    expectRank(product, 2, "matmulAdd", "a[M,K] and b[K,N]");
    const c = at(inputs, 2, "matmulAdd");
    expectDType(c, "float32", "matmulAdd", "c");
    expectShape(c, product.shape, "matmulAdd", "c");
    return [product];
  },
  decompose: ([a, b, c], attrs) => [add(c as Tensor, apply1(matmulOp, [a as Tensor, b as Tensor], attrs))],
  gradient: (context) => {
    const { inputs, cotangents, needed } = context;
    const [a, b] = (matmulOp.gradient as VjpRule)({
      ...context,
      inputs: inputs.slice(0, 2),
      needed: needed.slice(0, 2),
    });
    return [a, b, cotangents[0]];
  },
  lower: {
    kind: "kernel",
    kernel: "matmul_add",
    ints: ({ attrs }) => [attrs["operands"] === "bfloat16" ? 1 : 0],
    strided: [0, 1],
    narrowInputs: [0, 1],
    inPlace: [[0, 2]],
  },
  operands: [0, 1],
  samples: [
    sample("normal", [4, 8, 16]),
    sample("odd", [7, 13, 5]),
    sample("several blocks", [3, 2, 600011]),
    sample("larger", [70, 129, 67]),
    sample("operands rounded", [20, 33, 47], "bfloat16"),
    sample("empty sum", [3, 0, 4]),
    sample("empty", [0, 3, 4]),
    sample("size-1", [1, 1, 1]),
  ],
});
