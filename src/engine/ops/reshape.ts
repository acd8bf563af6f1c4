import { defineOp, type Layout } from "../ir/op.ts";
import { formatShape, normalizeAxis, rowMajorStrides, type Shape, sameShape, sizeOf } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { at, fail, intsOf, oracle } from "./support.ts";

/** Same elements in row-major order under another shape. attrs: {shape}. */
export const reshapeOp = defineOp({
  name: "reshape",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "reshape");
    const shape = intsOf(attrs["shape"]);
    if (sizeOf(shape) !== sizeOf(x.shape) || shape.some((n) => n < 0 || !Number.isInteger(n))) {
      fail(
        "reshape",
        `a shape of ${sizeOf(x.shape)} elements for ${formatShape(x.shape)}`,
        formatShape(shape),
        "make the products equal, or give one axis as -1",
      );
    }
    return [{ shape, dtype: x.dtype }];
  },
  evaluate: ([x], _, [type]) => [oracle(type as TensorType, (x as { data: Float64Array }).data)],
  gradient: ({ inputs: [x], cotangents: [dy] }) => [dy === undefined ? undefined : reshape(dy, (x as Tensor).shape)],
  lower: {
    kind: "view",
    layout: (node, input) => {
      const layout = reshapeLayout(input.shape, input.layout, (node.outputs[0] as TensorType).shape);
      return layout === undefined ? undefined : [layout];
    },
  },
  samples: [
    { name: "merge", inputs: [{ shape: [4, 3, 5], dtype: "float32" }], attrs: { shape: [12, 5] } },
    { name: "split", inputs: [{ shape: [12, 5], dtype: "int32" }], attrs: { shape: [2, 6, 5] } },
    { name: "empty", inputs: [{ shape: [0, 5], dtype: "float32" }], attrs: { shape: [5, 0] } },
    { name: "size-1", inputs: [{ shape: [], dtype: "float32" }], attrs: { shape: [1, 1] } },
    { name: "odd", inputs: [{ shape: [7, 13], dtype: "float32" }], attrs: { shape: [91] } },
  ],
});

/** Strides of a reshaped view, or undefined where rows of the new shape would not be evenly spaced. */
export function reshapeLayout(from: Shape, layout: Layout, to: Shape): Layout | undefined {
  if (sizeOf(to) === 0) return { offset: layout.offset, strides: rowMajorStrides(to) };
  const old = from.map((n, i) => ({ n, s: layout.strides[i] as number })).filter((axis) => axis.n !== 1);
  const strides = new Array<number>(to.length).fill(0);
  let i = 0;
  let j = 0;
  while (i < old.length) {
    // Grow a group of old axes and a group of new axes to the same number of elements.
    const start = i;
    let oldSize = (old[i++] as { n: number }).n;
    const first = j;
    while (j < to.length && to[j] === 1) j++;
    let newSize = to[j++] ?? 1;
    while (oldSize !== newSize) {
      if (oldSize < newSize) oldSize *= (old[i++] as { n: number }).n;
      else newSize *= to[j++] ?? 1;
    }
    for (let k = start; k + 1 < i; k++) {
      const outer = old[k] as { n: number; s: number };
      const inner = old[k + 1] as { n: number; s: number };
      if (outer.s !== inner.s * inner.n) return undefined;
    }
    let step = (old[i - 1] as { s: number }).s;
    for (let k = j - 1; k >= first; k--) {
      strides[k] = step;
      step *= to[k] as number;
    }
  }
  return { offset: layout.offset, strides };
}

/** x under another shape with as many elements; one axis may be -1. A view where memory allows. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const holes = shape.filter((n) => n === -1).length;
  if (holes > 1) fail("reshape", "at most one -1", formatShape(shape), "spell out the other sizes");
  let resolved = shape;
  if (holes === 1) {
    const known = sizeOf(shape.filter((n) => n !== -1));
    if (known === 0 || sizeOf(x.shape) % known !== 0) {
      fail(
        "reshape",
        `sizes that divide ${sizeOf(x.shape)} elements of ${formatShape(x.shape)}`,
        formatShape(shape),
        "check the sizes beside the -1",
      );
    }
    resolved = shape.map((n) => (n === -1 ? sizeOf(x.shape) / known : n));
  }
  return sameShape(resolved, x.shape) ? x : apply1(reshapeOp, [x], { shape: resolved });
}

/** x with an axis of size 1 inserted at `axis` (negative counts from the end of the result). */
export function expandDims(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank + 1, "expandDims");
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** x without `axis`, which must have size 1. */
export function squeeze(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank, "squeeze");
  if (x.shape[at] !== 1) {
    fail("squeeze", `size 1 on axis ${axis}`, formatShape(x.shape), "name an axis of size 1, or use reshape");
  }
  return reshape(x, [...x.shape.slice(0, at), ...x.shape.slice(at + 1)]);
}
