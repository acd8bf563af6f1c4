import { PlinthError } from "../../base/index.ts";
import { type DType, isFloating } from "../ir/dtype.ts";
import type { Oracle } from "../ir/op.ts";
import { formatShape, rowMajorStrides, type Shape, sizeOf } from "../ir/shape.ts";
import type { AttrValue, TensorType } from "../ir/tensor.ts";

/** Throws `op: expected X, got Y. Fix: Z.` */
export function fail(op: string, expected: string, got: string, fix: string): never {
  throw new PlinthError(`${op}: expected ${expected}, got ${got}`, fix);
}

/** `float32[2,3]`, as types appear in messages. */
export function formatType(type: TensorType): string {
  return `${type.dtype}${formatShape(type.shape)}`;
}

/** Input `i` of a node being inferred; a missing one is a defect of the caller, named. */
export function at<T>(list: readonly T[], i: number, op: string): T {
  const item = list[i];
  if (item === undefined) throw new Error(`${op}: input ${i} is missing (got ${list.length}).`);
  return item;
}

export function expectFloating(type: TensorType, op: string, what = "a floating tensor"): void {
  if (!isFloating(type.dtype)) fail(op, what, formatType(type), 'convert it with cast(x, "float32")');
}

export function expectDType(type: TensorType, dtype: DType, op: string, what: string): void {
  if (type.dtype !== dtype) fail(op, `${what} of ${dtype}`, formatType(type), `convert it with cast(x, "${dtype}")`);
}

export function expectShape(type: TensorType, shape: Shape, op: string, what: string): void {
  if (type.shape.length !== shape.length || type.shape.some((n, i) => n !== shape[i])) {
    fail(
      op,
      `${what} of shape ${formatShape(shape)}`,
      formatType(type),
      "reshape it, or check which tensor was passed",
    );
  }
}

export function expectRank(type: TensorType, rank: number, op: string, axes: string): void {
  if (type.shape.length !== rank) fail(op, axes, formatType(type), `reshape it to ${rank} axes`);
}

/** Common element type of operands: floats widen to float32 when they differ; anything else must be equal. */
export function promote(types: readonly TensorType[], op: string): DType {
  let dtype = at(types, 0, op).dtype;
  for (const type of types) {
    if (type.dtype === dtype) continue;
    if (!isFloating(type.dtype) || !isFloating(dtype)) {
      fail(op, "operands of one kind", types.map(formatType).join(" and "), "cast one of them");
    }
    dtype = "float32";
  }
  return dtype;
}

/** Attribute known to be a list of integers (axes, sizes). */
export function intsOf(value: AttrValue): readonly number[] {
  return value as readonly number[];
}

/** A shape given as an option. */
export function expectSizes(shape: Shape, op: string): Shape {
  if (shape.some((n) => !Number.isInteger(n) || n < 0)) fail(op, "sizes of 0 or more", `[${shape}]`, "check the shape");
  return shape;
}

/** An oracle value of a type, zero-filled unless data is given. */
export function oracle(type: TensorType, data?: Float64Array): Oracle {
  return { shape: type.shape, dtype: type.dtype, data: data ?? new Float64Array(sizeOf(type.shape)) };
}

/** Strides that read a row-major `from` as the broadcast shape `to`: 0 on broadcast axes. */
export function broadcastStrides(from: Shape, to: Shape): number[] {
  const strides = rowMajorStrides(from);
  return to.map((_, i) => {
    const j = i - (to.length - from.length);
    return j < 0 || from[j] === 1 ? 0 : (strides[j] as number);
  });
}

/** Elements of `data` seen through shape, strides and offset, in row-major order. */
export function readStrided(data: Float64Array, shape: Shape, strides: readonly number[], offset = 0): Float64Array {
  const out = new Float64Array(sizeOf(shape));
  if (out.length === 0) return out;
  const rank = shape.length;
  if (rank === 0) {
    out[0] = data[offset] as number;
    return out;
  }
  const inner = shape[rank - 1] as number;
  const innerStride = strides[rank - 1] as number;
  const index = new Array<number>(rank).fill(0);
  let base = offset;
  for (let o = 0; o < out.length; o += inner) {
    for (let i = 0; i < inner; i++) out[o + i] = data[base + i * innerStride] as number;
    for (let axis = rank - 2; axis >= 0; axis--) {
      const stride = strides[axis] as number;
      index[axis] = (index[axis] as number) + 1;
      base += stride;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      base -= stride * (shape[axis] as number);
      index[axis] = 0;
    }
  }
  return out;
}

/** An oracle value broadcast to a shape, as row-major data (the data itself when nothing changes). */
export function broadcastData(value: Oracle, shape: Shape): Float64Array {
  if (value.data.length === sizeOf(shape)) return value.data;
  return readStrided(value.data, shape, broadcastStrides(value.shape, shape));
}
