import { defineOp } from "../ir/op.ts";
import { formatShape, rowMajorStrides } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { at, fail, intsOf, oracle, readStrided } from "./support.ts";

/** Axes in another order: output axis i is input axis permutation[i]. attrs: {permutation}. */
export const transposeOp = defineOp({
  name: "transpose",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "transpose");
    const permutation = intsOf(attrs["permutation"]);
    const sorted = [...permutation].sort((a, b) => a - b);
    if (permutation.length !== x.shape.length || sorted.some((axis, i) => axis !== i)) {
      fail(
        "transpose",
        `a permutation of the ${x.shape.length} axes of ${formatShape(x.shape)}`,
        formatShape(permutation),
        "name every axis once",
      );
    }
    return [{ shape: permutation.map((axis) => x.shape[axis] as number), dtype: x.dtype }];
  },
  evaluate: ([x], attrs, [type]) => {
    const { data, shape } = x as { data: Float64Array; shape: readonly number[] };
    const strides = rowMajorStrides(shape);
    const permuted = intsOf(attrs["permutation"]).map((axis) => strides[axis] as number);
    return [oracle(type as TensorType, readStrided(data, (type as TensorType).shape, permuted))];
  },
  gradient: ({ node, cotangents: [dy] }) => {
    if (dy === undefined) return [undefined];
    const permutation = intsOf(node.attrs["permutation"]);
    return [
      transpose(
        dy,
        permutation.map((_, axis) => permutation.indexOf(axis)),
      ),
    ];
  },
  lower: {
    kind: "view",
    layout: (node, { layout }) => [
      {
        offset: layout.offset,
        strides: intsOf(node.attrs["permutation"]).map((axis) => layout.strides[axis] as number),
      },
    ],
  },
  samples: [
    { name: "matrix", inputs: [{ shape: [7, 13], dtype: "float32" }], attrs: { permutation: [1, 0] } },
    { name: "heads", inputs: [{ shape: [2, 5, 3, 4], dtype: "float32" }], attrs: { permutation: [0, 2, 1, 3] } },
    { name: "rotate", inputs: [{ shape: [3, 4, 5], dtype: "int32" }], attrs: { permutation: [2, 0, 1] } },
    { name: "empty", inputs: [{ shape: [0, 3], dtype: "float32" }], attrs: { permutation: [1, 0] } },
    { name: "size-1", inputs: [{ shape: [1, 1], dtype: "float32" }], attrs: { permutation: [1, 0] } },
    { name: "larger", inputs: [{ shape: [65, 129], dtype: "float32" }], attrs: { permutation: [1, 0] } },
  ],
});

/** x with its axes reordered: axis i of the result is axis `permutation[i]` of x (negative counts from the end). A view. */
export function transpose(x: Tensor, permutation: readonly number[]): Tensor {
  const axes = permutation.map((axis) => (axis < 0 ? axis + x.rank : axis));
  if (axes.length === x.rank && axes.every((axis, i) => axis === i)) return x;
  return apply1(transposeOp, [x], { permutation: axes });
}

/** x[..., A, B] -> [..., B, A]. */
export function swapLastAxes(x: Tensor): Tensor {
  const axes = x.shape.map((_, i) => i);
  if (axes.length < 2) fail("transpose", "at least two axes", formatShape(x.shape), "reshape it first");
  return transpose(x, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
}
