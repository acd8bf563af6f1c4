import { defineOp, type Oracle } from "../ir/op.ts";
import { formatShape, rowMajorStrides, type Shape } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { at, fail, intsOf, oracle, readStrided } from "./support.ts";

/** Elements starts[i] <= index < limits[i] of every axis. attrs: {starts, limits}. */
export const sliceOp = defineOp({
  name: "slice",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "slice");
    const starts = intsOf(attrs["starts"]);
    const limits = intsOf(attrs["limits"]);
    const valid = x.shape.every((n, i) => {
      const [low, high] = [starts[i] ?? -1, limits[i] ?? -1];
      return low >= 0 && low <= high && high <= n;
    });
    if (starts.length !== x.shape.length || limits.length !== x.shape.length || !valid) {
      fail(
        "slice",
        `0 <= starts <= limits <= ${formatShape(x.shape)} on every axis`,
        `starts ${formatShape(starts)}, limits ${formatShape(limits)}`,
        "give one start and one limit per axis, inside the tensor",
      );
    }
    return [{ shape: x.shape.map((_, i) => (limits[i] as number) - (starts[i] as number)), dtype: x.dtype }];
  },
  evaluate: ([x], attrs, [type]) => {
    const { data, shape } = x as Oracle;
    const strides = rowMajorStrides(shape);
    const offset = intsOf(attrs["starts"]).reduce((sum, start, i) => sum + start * (strides[i] as number), 0);
    return [oracle(type as TensorType, readStrided(data, (type as TensorType).shape, strides, offset))];
  },
  gradient: ({ node, inputs: [x], cotangents: [dy] }) => {
    if (dy === undefined) return [undefined];
    const limits = intsOf(node.attrs["limits"]);
    return [
      pad(dy, {
        low: intsOf(node.attrs["starts"]),
        high: (x as Tensor).shape.map((n, i) => n - (limits[i] as number)),
      }),
    ];
  },
  lower: {
    kind: "view",
    layout: (node, { layout }) => [
      {
        offset: intsOf(node.attrs["starts"]).reduce(
          (sum, start, i) => sum + start * (layout.strides[i] as number),
          layout.offset,
        ),
        strides: layout.strides,
      },
    ],
  },
  samples: [
    { name: "rows", inputs: [{ shape: [7, 13], dtype: "float32" }], attrs: { starts: [2, 0], limits: [5, 13] } },
    { name: "columns", inputs: [{ shape: [7, 13], dtype: "float32" }], attrs: { starts: [0, 3], limits: [7, 12] } },
    { name: "int32", inputs: [{ shape: [3, 4, 5], dtype: "int32" }], attrs: { starts: [1, 1, 1], limits: [3, 2, 4] } },
    { name: "empty", inputs: [{ shape: [3, 4], dtype: "float32" }], attrs: { starts: [1, 2], limits: [1, 4] } },
    { name: "size-1", inputs: [{ shape: [5], dtype: "float32" }], attrs: { starts: [4], limits: [5] } },
  ],
});

/** Zeros around a tensor. attrs: {low, high} per axis. */
export const padOp = defineOp({
  name: "pad",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "pad");
    const low = intsOf(attrs["low"]);
    const high = intsOf(attrs["high"]);
    if (low.length !== x.shape.length || high.length !== x.shape.length || [...low, ...high].some((n) => n < 0)) {
      fail(
        "pad",
        `${x.shape.length} counts >= 0 before and after`,
        `low ${formatShape(low)}, high ${formatShape(high)} for ${formatShape(x.shape)}`,
        "give one count per axis; use slice to cut",
      );
    }
    return [{ shape: x.shape.map((n, i) => n + (low[i] as number) + (high[i] as number)), dtype: x.dtype }];
  },
  evaluate: ([x], attrs, [type]) => {
    const { data, shape } = x as Oracle;
    const out = oracle(type as TensorType);
    const strides = rowMajorStrides(out.shape);
    const offset = intsOf(attrs["low"]).reduce((sum, low, i) => sum + low * (strides[i] as number), 0);
    const positions = readStrided(
      Float64Array.from({ length: out.data.length }, (_, i) => i),
      shape,
      strides,
      offset,
    );
    for (let i = 0; i < data.length; i++) out.data[positions[i] as number] = data[i] as number;
    return [out];
  },
  gradient: ({ node, inputs: [x], cotangents: [dy] }) => {
    if (dy === undefined) return [undefined];
    const low = intsOf(node.attrs["low"]);
    return [slice(dy, { starts: low, limits: (x as Tensor).shape.map((n, i) => n + (low[i] as number)) })];
  },
  lower: { kind: "kernel", kernel: "pad", ints: (node) => intsOf(node.attrs["low"]), strided: [0] },
  samples: [
    { name: "both sides", inputs: [{ shape: [3, 5], dtype: "float32" }], attrs: { low: [1, 2], high: [0, 3] } },
    { name: "nothing", inputs: [{ shape: [7, 13], dtype: "float32" }], attrs: { low: [0, 0], high: [0, 0] } },
    { name: "int32", inputs: [{ shape: [2, 3, 5], dtype: "int32" }], attrs: { low: [0, 1, 0], high: [1, 0, 2] } },
    { name: "empty", inputs: [{ shape: [0, 3], dtype: "float32" }], attrs: { low: [2, 0], high: [0, 1] } },
    { name: "size-1", inputs: [{ shape: [1], dtype: "float32" }], attrs: { low: [0], high: [0] } },
    { name: "around one", inputs: [{ shape: [1], dtype: "float32" }], attrs: { low: [1], high: [1] } },
    { name: "larger", inputs: [{ shape: [33, 65], dtype: "float32" }], attrs: { low: [3, 64], high: [1, 0] } },
  ],
});

/** x[starts[0]:limits[0], starts[1]:limits[1], ...]; missing trailing axes are whole, negative limits count from the end. A view. */
export function slice(x: Tensor, options: { starts: Shape; limits: Shape }): Tensor {
  const bound = (values: Shape, fallback: (n: number) => number) =>
    x.shape.map((n, i) => {
      const value = values[i];
      if (value === undefined) return fallback(n);
      return value < 0 ? value + n : value;
    });
  const extra = [options.starts, options.limits].find((values) => values.length > x.rank);
  if (extra !== undefined) fail("slice", `at most ${x.rank} bounds`, formatShape(extra), "drop the extra ones");
  const starts = bound(options.starts, () => 0);
  const limits = bound(options.limits, (n) => n);
  return apply1(sliceOp, [x], { starts, limits });
}

/** x with `low[i]` zeros before and `high[i]` after along axis i. */
export function pad(x: Tensor, options: { low: Shape; high: Shape }): Tensor {
  return apply1(padOp, [x], { low: options.low, high: options.high });
}
