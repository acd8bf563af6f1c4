import type { DType, HostArray } from "../ir/dtype.ts";
import { rowMajorStrides, type Shape, sizeOf } from "../ir/shape.ts";
import type { Node, Tensor } from "../ir/tensor.ts";

/** Memory of one value. Several views may look at it; where it lies is decided by the memory plan. */
export interface Buffer {
  readonly bytes: number;
  /** What fixes its place; absent for intermediates, which go into the arena. */
  readonly source?: { readonly kind: "input" | "constant"; readonly index: number };
}

/** A strided window on a buffer. `offset` and `strides` in elements; stride 0 repeats along an axis. */
export interface View {
  readonly buffer: Buffer;
  readonly dtype: DType;
  readonly offset: number;
  readonly shape: Shape;
  readonly strides: readonly number[];
}

/** One kernel call before memory is planned. Outputs are whole, row-major buffers of their own. */
export interface Step {
  readonly kernel: string;
  readonly inputs: readonly View[];
  readonly outputs: readonly View[];
  readonly ints: readonly number[];
  readonly floats: readonly number[];
  readonly workspaceBytes: number;
  /** Pairs [output, input] that may share memory. */
  readonly inPlace: readonly (readonly [number, number])[];
  readonly label: string;
}

/** A graph as kernel calls in order. */
export interface Lowered {
  readonly steps: readonly Step[];
  readonly inputs: readonly Buffer[];
  readonly constants: readonly HostArray[];
  readonly outputs: readonly View[];
}

/** True where elements lie next to each other in row-major order (axes of size 1 may have any stride). */
export function isRowMajor(shape: Shape, strides: readonly number[]): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    const n = shape[i] as number;
    if (n === 0) return true;
    if (n !== 1 && strides[i] !== step) return false;
    step *= n;
  }
  return true;
}

/** True where the view covers its whole buffer in row-major order. */
export function isWhole(view: View, bytesPerElement: number): boolean {
  return (
    view.offset === 0 &&
    sizeOf(view.shape) * bytesPerElement === view.buffer.bytes &&
    isRowMajor(view.shape, view.strides)
  );
}

/** The same memory under a shape with as many elements; the view must be row-major. */
export function rowMajorView(view: View, shape: Shape = view.shape): View {
  return { ...view, shape, strides: rowMajorStrides(shape) };
}

/** The view repeated to a shape that its own broadcasts to. */
export function broadcastView(view: View, shape: Shape): View {
  const lead = shape.length - view.shape.length;
  const strides = shape.map((_, i) =>
    i < lead || view.shape[i - lead] === 1 ? 0 : (view.strides[i - lead] as number),
  );
  return { ...view, shape, strides };
}

/** [..., M, N] of a product a[..., M, K] x b[..., K, N]. */
export function productShape(node: Node): Shape {
  const [a, b] = node.inputs as [Tensor, Tensor];
  return [...a.shape.slice(0, -1), b.shape.at(-1) as number];
}
