import { defineOp, type OpSample, type Oracle } from "../ir/op.ts";
import { formatShape, normalizeAxis, rowMajorStrides, type Shape, sizeOf } from "../ir/shape.ts";
import { apply, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { scalar } from "./source.ts";
import { broadcastTo } from "./sum.ts";
import { at, fail, formatType, intsOf, oracle, readStrided } from "./support.ts";

/** Consecutive windows of one axis. attrs: {sizes, axis}. */
export const splitOp = defineOp({
  name: "split",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "split");
    const axis = attrs["axis"] as number;
    const sizes = intsOf(attrs["sizes"]);
    const total = sizes.reduce((sum, n) => sum + n, 0);
    if (sizes.length === 0 || total !== x.shape[axis] || sizes.some((n) => n < 0 || !Number.isInteger(n))) {
      fail(
        "split",
        `sizes adding up to ${x.shape[axis]} (axis ${axis} of ${formatShape(x.shape)})`,
        formatShape(sizes),
        "choose parts that divide the axis, or list sizes",
      );
    }
    return sizes.map((size) => ({ shape: x.shape.map((n, i) => (i === axis ? size : n)), dtype: x.dtype }));
  },
  evaluate: ([x], attrs, types) => {
    const { data, shape } = x as Oracle;
    const strides = rowMajorStrides(shape);
    let offset = 0;
    return types.map((type) => {
      const part = oracle(type, readStrided(data, type.shape, strides, offset));
      const axis = attrs["axis"] as number;
      offset += (type.shape[axis] as number) * (strides[axis] as number);
      return part;
    });
  },
  gradient: ({ node, outputs, cotangents }) => {
    const dtype = cotangents.find((t) => t !== undefined)?.dtype;
    if (dtype === undefined) return [undefined];
    const parts = outputs.map((y, i) => cotangents[i] ?? broadcastTo(scalar(0, dtype), y.shape));
    return [concat(parts, { axis: node.attrs["axis"] as number })];
  },
  lower: {
    kind: "view",
    layout: (node, { layout }) => {
      const axis = node.attrs["axis"] as number;
      let start = 0;
      return intsOf(node.attrs["sizes"]).map((size) => {
        const offset = layout.offset + start * (layout.strides[axis] as number);
        start += size;
        return { offset, strides: layout.strides };
      });
    },
  },
  samples: [
    { name: "thirds", inputs: [{ shape: [4, 24], dtype: "float32" }], attrs: { sizes: [8, 8, 8], axis: 1 } },
    { name: "odd sizes", inputs: [{ shape: [7, 13], dtype: "float32" }], attrs: { sizes: [1, 4, 2], axis: 0 } },
    { name: "int32", inputs: [{ shape: [3, 5, 2], dtype: "int32" }], attrs: { sizes: [2, 3], axis: 1 } },
    { name: "empty part", inputs: [{ shape: [5], dtype: "float32" }], attrs: { sizes: [0, 5], axis: 0 } },
    { name: "size-1", inputs: [{ shape: [1], dtype: "float32" }], attrs: { sizes: [1], axis: 0 } },
  ],
});

const float32 = (shape: Shape) => ({ shape, dtype: "float32" as const });
const concatSamples: readonly OpSample[] = [
  { name: "columns", inputs: [float32([4, 3]), float32([4, 5])], attrs: { axis: 1 } },
  { name: "rows, odd", inputs: [float32([1, 13]), float32([7, 13]), float32([2, 13])], attrs: { axis: 0 } },
  {
    name: "int32",
    inputs: [
      { shape: [3, 2], dtype: "int32" },
      { shape: [3, 1], dtype: "int32" },
    ],
    attrs: { axis: 1 },
  },
  { name: "empty part", inputs: [float32([3, 0]), float32([3, 2])], attrs: { axis: 1 } },
  { name: "all empty", inputs: [float32([0, 2]), float32([0, 2])], attrs: { axis: 0 } },
  { name: "size-1", inputs: [float32([1])], attrs: { axis: 0 } },
  { name: "larger", inputs: [float32([33, 65]), float32([33, 64])], attrs: { axis: 1 } },
];

/** Tensors one after another along an axis. attrs: {axis}. */
export const concatOp = defineOp({
  name: "concat",
  infer: (inputs, attrs) => {
    const first = at(inputs, 0, "concat");
    const axis = normalizeAxis(attrs["axis"] as number, first.shape.length, "concat");
    if (axis !== attrs["axis"]) fail("concat", "an axis counted from the first", `${attrs["axis"]}`, `use ${axis}`);
    for (const type of inputs) {
      const fits =
        type.shape.length === first.shape.length && type.shape.every((n, i) => i === axis || n === first.shape[i]);
      if (!fits || type.dtype !== first.dtype) {
        fail(
          "concat",
          `tensors like ${formatType(first)} except on axis ${axis}`,
          formatType(type),
          "make the other axes and the element types equal",
        );
      }
    }
    const length = inputs.reduce((sum, type) => sum + (type.shape[axis] as number), 0);
    return [{ shape: first.shape.map((n, i) => (i === axis ? length : n)), dtype: first.dtype }];
  },
  evaluate: (inputs, attrs, [type]) => {
    const out = oracle(type as TensorType);
    const axis = attrs["axis"] as number;
    const row = sizeOf(out.shape.slice(axis));
    const rows = sizeOf(out.shape.slice(0, axis));
    let start = 0;
    for (const { shape, data } of inputs) {
      const chunk = sizeOf(shape.slice(axis));
      for (let r = 0; r < rows; r++) out.data.set(data.subarray(r * chunk, (r + 1) * chunk), r * row + start);
      start += chunk;
    }
    return [out];
  },
  gradient: ({ node, inputs, cotangents: [dy] }) => {
    if (dy === undefined) return inputs.map(() => undefined);
    const axis = node.attrs["axis"] as number;
    return split(
      dy,
      inputs.map((x) => x.shape[axis] as number),
      { axis },
    );
  },
  lower: { kind: "kernel", kernel: "concat", ints: (node) => [node.attrs["axis"] as number], strided: "all" },
  samples: concatSamples,
});

/** x cut along `axis` into that many equal parts, or into parts of the given sizes. Views of one node. */
export function split(x: Tensor, parts: number | readonly number[], options: { axis: number }): Tensor[] {
  const axis = normalizeAxis(options.axis, x.rank, "split");
  const length = x.shape[axis] as number;
  if (typeof parts === "number" && (parts < 1 || length % parts !== 0)) {
    fail(
      "split",
      `a number of parts dividing ${length} (axis ${axis} of ${formatShape(x.shape)})`,
      `${parts}`,
      "choose a divisor, or list the sizes",
    );
  }
  const sizes = typeof parts === "number" ? new Array<number>(parts).fill(length / parts) : parts;
  return apply(splitOp, [x], { sizes, axis });
}

/** Tensors joined along `axis`; their other axes and element types are equal. */
export function concat(xs: readonly Tensor[], options: { axis: number }): Tensor {
  const first = xs[0];
  if (first === undefined) fail("concat", "at least one tensor", "none", "pass the tensors to join");
  return apply1(concatOp, xs, { axis: normalizeAxis(options.axis, first.rank, "concat") });
}
