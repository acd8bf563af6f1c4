import { defineOp, type OpSample, type Oracle, type SampleInput } from "../ir/op.ts";
import { formatShape, normalizeAxis, type Shape, sizeOf } from "../ir/shape.ts";
import { type Attrs, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { add } from "./arithmetic.ts";
import { toFloat32 } from "./cast.ts";
import { scalar } from "./source.ts";
import { broadcastTo } from "./sum.ts";
import { at, expectDType, expectShape, expectSizes, fail, formatType, oracle } from "./support.ts";

// Indices pick or place elements along one axis; all other axes of indices and tensor are equal.

const axisOf = (attrs: Attrs): number => attrs["axis"] as number;

function expectAlong(x: TensorType, ids: TensorType, axis: number, op: string): void {
  expectDType(ids, "int32", op, "indices");
  const fits = ids.shape.length === x.shape.length && ids.shape.every((n, i) => i === axis || n === x.shape[i]);
  if (!fits) {
    fail(op, `indices like ${formatShape(x.shape)} except on axis ${axis}`, formatType(ids), "broadcast the indices");
  }
}

/** Calls visit(position among the indices, position in the tensor of `n` elements along the axis). */
function forEachIndex(
  op: string,
  ids: Oracle,
  axis: number,
  n: number,
  visit: (i: number, place: number) => void,
): void {
  const inner = sizeOf(ids.shape.slice(axis + 1));
  const m = ids.shape[axis] as number;
  ids.data.forEach((id, i) => {
    if (id < 0 || id >= n) fail(op, `indices in [0, ${n})`, `${id}`, "check them against the axis");
    visit(i, (Math.floor(i / (m * inner)) * n + id) * inner + (i % inner));
  });
}

const f32 = (shape: Shape, more: Partial<SampleInput> = {}): SampleInput => ({ shape, dtype: "float32", ...more });
const ids = (shape: Shape, n: number): SampleInput => ({ shape, dtype: "int32", low: 0, high: n });
const shapes: readonly (readonly [name: string, x: Shape, axis: number, count: number])[] = [
  ["last axis", [4, 8], 1, 3],
  ["first axis", [5, 7], 0, 9],
  ["middle, odd", [3, 5, 7], 1, 3],
  ["larger", [3, 40, 67], 1, 50],
  ["long row", [3, 1003], 1, 129],
  ["no rows", [0, 3], 1, 2],
  ["nothing picked", [3, 4], 1, 0],
  ["size-1", [1], 0, 1],
];
const moved = (shape: Shape, axis: number, count: number): Shape => shape.map((n, i) => (i === axis ? count : n));

/** x[..., n, ...], indices int32[..., m, ...] -> [..., m, ...]. attrs: {axis}. */
export const takeAlongOp = defineOp({
  name: "takeAlong",
  infer: (inputs, attrs) => {
    const [x, indices] = [at(inputs, 0, "takeAlong"), at(inputs, 1, "takeAlong")];
    if (x.dtype !== "int32") expectDType(x, "float32", "takeAlong", "values");
    expectAlong(x, indices, axisOf(attrs), "takeAlong");
    return [{ shape: indices.shape, dtype: x.dtype }];
  },
  evaluate: ([x, indices], attrs, [type]) => {
    const out = oracle(type as TensorType);
    const { data, shape } = x as Oracle;
    const axis = axisOf(attrs);
    forEachIndex("takeAlong", indices as Oracle, axis, shape[axis] as number, (i, place) => {
      out.data[i] = data[place] as number;
    });
    return [out];
  },
  gradient: ({ node, inputs: [x, indices], cotangents: [dy] }) => {
    const axis = axisOf(node.attrs);
    const size = (x as Tensor).shape[axis];
    return [
      dy === undefined ? undefined : apply1(scatterAlongAddOp, [indices as Tensor, dy], { axis, size }),
      undefined,
    ];
  },
  lower: { kind: "kernel", kernel: "gather_along", ints: (node) => [axisOf(node.attrs)] },
  samples: [
    ...shapes.map(
      ([name, shape, axis, count]): OpSample => ({
        name,
        inputs: [f32(shape), ids(moved(shape, axis, count), shape[axis] as number)],
        attrs: { axis },
      }),
    ),
    { name: "int32", inputs: [{ shape: [3, 5], dtype: "int32" }, ids([3, 2], 5)], attrs: { axis: 1 } },
  ],
});

/** indices int32[..., m, ...], updates of that shape -> [..., size, ...], sums in order of position. attrs: {axis, size}. */
export const scatterAlongAddOp = defineOp({
  name: "scatterAlongAdd",
  infer: (inputs, attrs) => {
    const [indices, updates] = [at(inputs, 0, "scatterAlong"), at(inputs, 1, "scatterAlong")];
    expectDType(indices, "int32", "scatterAlong", "indices");
    expectDType(updates, "float32", "scatterAlong", "updates");
    expectShape(updates, indices.shape, "scatterAlong", "updates");
    const shape = moved(indices.shape, axisOf(attrs), attrs["size"] as number);
    return [{ shape: expectSizes(shape, "scatterAlong"), dtype: "float32" }];
  },
  evaluate: ([indices, updates], attrs, [type]) => {
    const out = oracle(type as TensorType);
    forEachIndex("scatterAlong", indices as Oracle, axisOf(attrs), attrs["size"] as number, (i, place) => {
      out.data[place] = (out.data[place] as number) + ((updates as Oracle).data[i] as number);
    });
    return [out];
  },
  gradient: ({ node, inputs: [indices], cotangents: [dy] }) => [
    undefined,
    dy === undefined ? undefined : apply1(takeAlongOp, [dy, indices as Tensor], { axis: axisOf(node.attrs) }),
  ],
  lower: { kind: "kernel", kernel: "scatter_along_add", ints: (node) => [axisOf(node.attrs)] },
  samples: shapes.map(([name, shape, axis, count]): OpSample => {
    const n = shape[axis] as number;
    const at = moved(shape, axis, count);
    return { name, inputs: [ids(at, n), f32(at)], attrs: { axis, size: n }, tolerance: 1e-4 };
  }),
});

/** x with x[..., indices, ...] replaced; of equal indices the last counts. attrs: {axis}. */
export const scatterAlongOp = defineOp({
  name: "scatterAlong",
  infer: (inputs, attrs) => {
    const [x, indices, updates] = [0, 1, 2].map((i) => at(inputs, i, "scatterAlong")) as [
      TensorType,
      TensorType,
      TensorType,
    ];
    expectDType(x, "float32", "scatterAlong", "values");
    expectDType(updates, "float32", "scatterAlong", "updates");
    expectAlong(x, indices, axisOf(attrs), "scatterAlong");
    expectShape(updates, indices.shape, "scatterAlong", "updates");
    return [x];
  },
  evaluate: ([x, indices, updates], attrs) => {
    const { data, shape, dtype } = x as Oracle;
    const out = data.slice();
    const axis = axisOf(attrs);
    forEachIndex("scatterAlong", indices as Oracle, axis, shape[axis] as number, (i, place) => {
      out[place] = (updates as Oracle).data[i] as number;
    });
    return [{ shape, dtype, data: out }];
  },
  gradient: ({ node, inputs, cotangents: [dy] }) => {
    if (dy === undefined) return [undefined, undefined, undefined];
    const [, indices, updates] = inputs as [Tensor, Tensor, Tensor];
    const none = broadcastTo(scalar(0), updates.shape);
    return [
      apply1(scatterAlongOp, [dy, indices, none], node.attrs),
      undefined,
      apply1(takeAlongOp, [dy, indices], node.attrs),
    ];
  },
  lower: { kind: "kernel", kernel: "scatter_along", ints: (node) => [axisOf(node.attrs)], inPlace: [[0, 0]] },
  samples: [
    ["last axis", [3, 8], 1, [[7, 0, 3]]] as const,
    ["first axis, odd", [5, 3], 0, [[4], [1]]] as const,
    ["larger", [2, 33, 17], 1, [[32], [0], [5]]] as const,
    ["no rows", [0, 3], 1, [[0]]] as const,
    ["size-1", [1], 0, [[0]]] as const,
  ].map(([name, shape, axis, picks]): OpSample => {
    const list = picks.flat();
    const at = moved(shape, axis, list.length);
    const inner = sizeOf(at.slice(axis + 1));
    const values = Array.from({ length: sizeOf(at) }, (_, i) => list[Math.floor(i / inner) % list.length] as number);
    return { name, inputs: [f32(shape), { shape: at, dtype: "int32", values }, f32(at)], attrs: { axis } };
  }),
});

/** Elements of x picked along `axis`: out[.., j, ..] = x[.., indices[.., j, ..], ..]. Indices outside the axis are an error. */
export function takeAlong(x: Tensor, indices: Tensor, options: { axis: number }): Tensor {
  const values = x.dtype === "int32" ? x : toFloat32(x);
  return apply1(takeAlongOp, [values, indices], { axis: normalizeAxis(options.axis, x.rank, "takeAlong") });
}

/**
 * x with updates at indices along `axis`: added ("add", in order of position), or in place of what was there ("replace":
 * of equal indices the last counts, and gradients are right only where indices differ).
 */
export function scatterAlong(
  x: Tensor,
  indices: Tensor,
  updates: Tensor,
  options: { axis: number; mode: "add" | "replace" },
): Tensor {
  const axis = normalizeAxis(options.axis, x.rank, "scatterAlong");
  if (options.mode === "replace") return apply1(scatterAlongOp, [toFloat32(x), indices, toFloat32(updates)], { axis });
  expectAlong(x, indices, axis, "scatterAlong");
  const size = x.shape[axis];
  return add(toFloat32(x), apply1(scatterAlongAddOp, [indices, toFloat32(updates)], { axis, size }));
}
