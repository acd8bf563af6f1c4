import { defineOp, type OpSample, type Oracle } from "../ir/op.ts";
import { broadcastShapes, formatShape, normalizeAxis, type Shape, sameShape } from "../ir/shape.ts";
import { type Attrs, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { toFloat32 } from "./cast.ts";
import { reshape } from "./reshape.ts";
import { at, broadcastStrides, expectDType, fail, intsOf, oracle, readStrided } from "./support.ts";

/** Shape after reducing `axes` (sorted, non-negative). */
export function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): number[] {
  return keepDims ? shape.map((n, i) => (axes.includes(i) ? 1 : n)) : shape.filter((_, i) => !axes.includes(i));
}

/** Options of reductions: which axes (default all), and whether they stay as axes of size 1. */
export interface ReduceOptions {
  readonly axes?: readonly number[] | number;
  readonly keepDims?: boolean;
}

export function reduceAttrs(x: Tensor, options: ReduceOptions, op: string): Attrs {
  const given = typeof options.axes === "number" ? [options.axes] : options.axes;
  const axes = (given ?? x.shape.map((_, i) => i)).map((axis) => normalizeAxis(axis, x.rank, op));
  return { axes: [...new Set(axes)].sort((a, b) => a - b), keepDims: options.keepDims ?? false };
}

export function inferReduce(inputs: readonly TensorType[], attrs: Attrs, op: string): TensorType[] {
  const x = at(inputs, 0, op);
  expectDType(x, "float32", op, "a tensor");
  return [{ shape: reducedShape(x.shape, intsOf(attrs["axes"]), attrs["keepDims"] as boolean), dtype: x.dtype }];
}

/** Folds the reduced axes of an oracle value. */
export function evaluateReduce(
  x: Oracle,
  attrs: Attrs,
  type: TensorType,
  initial: number,
  fold: (accumulator: number, value: number) => number,
): Oracle {
  const axes = intsOf(attrs["axes"]);
  const out = oracle(type);
  out.data.fill(initial);
  // The position in the output of every input element, read with stride 0 on reduced axes.
  const keptShape = reducedShape(x.shape, axes, true);
  const positions = readStrided(
    Float64Array.from({ length: out.data.length }, (_, i) => i),
    x.shape,
    broadcastStrides(keptShape, x.shape),
  );
  for (let i = 0; i < x.data.length; i++) {
    const o = positions[i] as number;
    out.data[o] = fold(out.data[o] as number, x.data[i] as number);
  }
  return out;
}

export const reduceSamples: readonly OpSample[] = [
  { name: "last axis", inputs: [{ shape: [4, 8], dtype: "float32" }], attrs: { axes: [1], keepDims: false } },
  { name: "first axis", inputs: [{ shape: [7, 13], dtype: "float32" }], attrs: { axes: [0], keepDims: false } },
  { name: "middle, kept", inputs: [{ shape: [3, 5, 7], dtype: "float32" }], attrs: { axes: [1], keepDims: true } },
  { name: "two axes", inputs: [{ shape: [3, 5, 7], dtype: "float32" }], attrs: { axes: [0, 2], keepDims: false } },
  {
    name: "all",
    inputs: [{ shape: [37, 129], dtype: "float32" }],
    attrs: { axes: [0, 1], keepDims: false },
    tolerance: 1e-4,
  },
  {
    name: "long row",
    inputs: [{ shape: [2, 5003], dtype: "float32" }],
    attrs: { axes: [1], keepDims: true },
    tolerance: 1e-4,
  },
  { name: "empty result", inputs: [{ shape: [0, 3], dtype: "float32" }], attrs: { axes: [1], keepDims: false } },
  { name: "empty axis", inputs: [{ shape: [3, 0], dtype: "float32" }], attrs: { axes: [1], keepDims: false } },
  { name: "size-1", inputs: [{ shape: [1], dtype: "float32" }], attrs: { axes: [0], keepDims: false } },
  { name: "no axes", inputs: [{ shape: [3, 5], dtype: "float32" }], attrs: { axes: [], keepDims: false } },
];

/** Sum over axes in float32. attrs: {axes, keepDims}. */
export const sumOp = defineOp({
  name: "sum",
  infer: (inputs, attrs) => inferReduce(inputs, attrs, "sum"),
  evaluate: ([x], attrs, [type]) => [
    evaluateReduce(x as Oracle, attrs, type as TensorType, 0, (accumulator, value) => accumulator + value),
  ],
  gradient: ({ node, inputs: [x], cotangents: [dy] }) => [
    dy === undefined ? undefined : unreduce(dy, (x as Tensor).shape, intsOf(node.attrs["axes"])),
  ],
  lower: {
    kind: "kernel",
    kernel: "reduce",
    ints: (node) => [0, ...intsOf(node.attrs["axes"])],
    strided: [0],
    narrowInputs: [0],
  },
  samples: reduceSamples,
});

/** Repeats along new or size-1 axes. attrs: {shape}. */
export const broadcastToOp = defineOp({
  name: "broadcastTo",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "broadcastTo");
    const shape = intsOf(attrs["shape"]);
    const isShape = shape.every((n) => Number.isInteger(n) && n >= 0);
    if (!isShape || !sameShape(broadcastShapes(x.shape, shape, "broadcastTo"), shape)) {
      fail(
        "broadcastTo",
        `a shape that ${formatShape(x.shape)} broadcasts to`,
        formatShape(shape),
        "sizes must be equal or 1, aligned at the last axis",
      );
    }
    return [{ shape, dtype: x.dtype }];
  },
  evaluate: ([x], _, [type]) => {
    const { data, shape } = x as Oracle;
    const to = (type as TensorType).shape;
    return [oracle(type as TensorType, readStrided(data, to, broadcastStrides(shape, to)))];
  },
  gradient: ({ inputs: [x], cotangents: [dy] }) => [dy === undefined ? undefined : sumTo(dy, (x as Tensor).shape)],
  lower: {
    kind: "view",
    layout: (node, { shape, layout }) => {
      const to = intsOf(node.attrs["shape"]);
      const strides = to.map((_, i) => {
        const j = i - (to.length - shape.length);
        return j < 0 || shape[j] === 1 ? 0 : (layout.strides[j] as number);
      });
      return [{ offset: layout.offset, strides }];
    },
  },
  samples: [
    { name: "rows", inputs: [{ shape: [13], dtype: "float32" }], attrs: { shape: [7, 13] } },
    { name: "columns", inputs: [{ shape: [7, 1], dtype: "float32" }], attrs: { shape: [7, 13] } },
    { name: "both", inputs: [{ shape: [3, 1, 5], dtype: "int32" }], attrs: { shape: [2, 3, 4, 5] } },
    { name: "scalar", inputs: [{ shape: [], dtype: "float32" }], attrs: { shape: [3] } },
    { name: "empty", inputs: [{ shape: [1, 3], dtype: "float32" }], attrs: { shape: [0, 3] } },
    { name: "size-1", inputs: [{ shape: [1], dtype: "float32" }], attrs: { shape: [1, 1] } },
  ],
});

/** Sum over axes (default all), accumulated in float32; narrow floats give float32. */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return apply1(sumOp, [toFloat32(x)], reduceAttrs(x, options, "sum"));
}

/** x repeated along new leading axes and axes of size 1. A view. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : apply1(broadcastToOp, [x], { shape });
}

/** Undoes broadcasting: sums x over the axes along which `shape` was repeated to x's shape. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.rank - shape.length;
  const axes = x.shape.flatMap((n, i) => (i < lead || (shape[i - lead] === 1 && n !== 1) ? [i] : []));
  return reshape(axes.length === 0 ? x : sum(x, { axes }), shape);
}

/** Spreads a reduced value back over the axes it was reduced from. */
export function unreduce(y: Tensor, shape: Shape, axes: readonly number[]): Tensor {
  return broadcastTo(reshape(y, reducedShape(shape, axes, true)), shape);
}
