import { PlinthError } from "../../base/index.ts";

/** Sizes of the axes, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements (1 for a scalar, 0 if any axis is empty). */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** `[2,3]` as users read it in messages. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(",")}]`;
}

/** Row-major strides, in elements. */
export function rowMajorStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i] ?? 1;
  }
  return strides;
}

/**
 * NumPy broadcasting of two shapes.
 * Throws naming the axis when sizes differ and neither is 1.
 */
export function broadcastShapes(a: Shape, b: Shape, op: string): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new PlinthError(
        `${op}: expected shapes that broadcast, got ${formatShape(a)} and ${formatShape(b)} (axis ${i - rank}: ${x} against ${y})`,
        "reshape or broadcastTo one side",
      );
    }
    out[i] = x === 1 ? y : x;
  }
  return out;
}

/** Non-negative axis number. Throws when out of range. */
export function normalizeAxis(axis: number, rank: number, op: string): number {
  const n = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(n) || n < 0 || n >= rank) {
    throw new PlinthError(
      `${op}: expected an axis in [${-rank}, ${rank - 1}], got ${axis}`,
      `name one of the tensor's ${rank} axes`,
    );
  }
  return n;
}
