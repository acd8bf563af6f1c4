import { defineOp, type OpDef, type Oracle } from "../ir/op.ts";
import { normalizeAxis, sizeOf } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { toFloat32 } from "./cast.ts";
import { at, expectDType, oracle } from "./support.ts";

/** Running sums along an axis. attrs: {axis, exclusive, reverse}. */
export const cumsumOp: OpDef = defineOp({
  name: "cumsum",
  infer: (inputs) => {
    const x = at(inputs, 0, "cumsum");
    expectDType(x, "float32", "cumsum", "a tensor");
    return [x];
  },
  evaluate: ([x], attrs, [type]) => {
    const out = oracle(type as TensorType);
    const { data, shape } = x as Oracle;
    const axis = attrs["axis"] as number;
    const n = shape[axis] as number;
    const inner = sizeOf(shape.slice(axis + 1));
    for (let line = 0; line < data.length / Math.max(1, n); line++) {
      const first = Math.floor(line / inner) * n * inner + (line % inner);
      let sum = 0;
      for (let j = 0; j < n; j++) {
        const place = first + (attrs["reverse"] ? n - 1 - j : j) * inner;
        const next = sum + (data[place] as number);
        out.data[place] = attrs["exclusive"] ? sum : next;
        sum = next;
      }
    }
    return [out];
  },
  gradient: ({ node: { attrs }, cotangents: [dy] }) => [
    dy === undefined ? undefined : apply1(cumsumOp, [dy], { ...attrs, reverse: attrs["reverse"] !== true }),
  ],
  lower: {
    kind: "kernel",
    kernel: "cumsum",
    ints: ({ attrs }) => [attrs["axis"] as number, attrs["exclusive"] ? 1 : 0, attrs["reverse"] ? 1 : 0],
    inPlace: [[0, 0]],
  },
  samples: [
    { name: "last axis", inputs: [{ shape: [4, 8], dtype: "float32" }], attrs: { axis: 1 } },
    {
      name: "first axis, exclusive",
      inputs: [{ shape: [7, 13], dtype: "float32" }],
      attrs: { axis: 0, exclusive: true },
    },
    { name: "middle, reverse", inputs: [{ shape: [3, 5, 35], dtype: "float32" }], attrs: { axis: 1, reverse: true } },
    { name: "both", inputs: [{ shape: [3, 5], dtype: "float32" }], attrs: { axis: 1, reverse: true, exclusive: true } },
    { name: "long", inputs: [{ shape: [3, 1003], dtype: "float32" }], attrs: { axis: 1 }, tolerance: 1e-4 },
    { name: "empty", inputs: [{ shape: [3, 0], dtype: "float32" }], attrs: { axis: 1 } },
    { name: "size-1", inputs: [{ shape: [1], dtype: "float32" }], attrs: { axis: 0 } },
  ],
});

/**
 * Sums of all elements up to each place along `axis`, in float32: itself counted unless `exclusive`; from the end with
 * `reverse`.
 */
export function cumsum(x: Tensor, options: { axis: number; exclusive?: boolean; reverse?: boolean }): Tensor {
  const { exclusive = false, reverse = false } = options;
  return apply1(cumsumOp, [toFloat32(x)], { axis: normalizeAxis(options.axis, x.rank, "cumsum"), exclusive, reverse });
}
