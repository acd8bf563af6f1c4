import { dtypeBytes } from "../ir/dtype.ts";
import { formatShape, sizeOf } from "../ir/shape.ts";
import { flopsOf } from "./flops.ts";
import type { Step, View } from "./lowered.ts";

/** What one call of a kernel must do at least, whatever its implementation. Part of a profile's entries. */
export interface StepCost {
  /** Of products, as {@link flopsOf} counts them; 0 for everything else. */
  readonly flops: number;
  /** Memory read and written when every operand is moved once. */
  readonly bytes: number;
  /** How the products read their operands; it decides which limit they run against. Absent where there are none. */
  readonly operands?: "float32" | "bfloat16";
  /** Operands of a product (`1024x768 · 768x2304`), the largest operand of any other kernel. */
  readonly shapes: string;
}

export function costOf(step: Step): StepCost {
  const flops = flopsOf(step);
  const cost = { flops, bytes: bytesOf(step), shapes: shapesOf(step) };
  return flops === 0 ? cost : { ...cost, operands: operandsOf(step) };
}

function operandsOf({ kernel, ints }: Step): "float32" | "bfloat16" {
  // Quantised products always read bfloat16.
  if (kernel === "quantized_matmul") return "bfloat16";
  return ints[kernel.startsWith("attention") ? 4 : 0] === 1 ? "bfloat16" : "float32";
}

function isProduct(kernel: string): boolean {
  return kernel === "matmul" || kernel === "matmul_add";
}

/** Inputs and outputs once each; of a table or cache only the rows that are touched. */
function bytesOf({ kernel, inputs, outputs }: Step): number {
  const [ids, updates, base] = inputs;
  // Onto a base: the updates, and the rows they change.
  if (kernel === "scatter_add" && base !== undefined) return bytes([ids, updates, updates, updates] as View[]);
  if (kernel === "gather") return bytes(inputs.slice(1)) + 2 * bytes(outputs);
  if (kernel === "cache_update") return bytes(inputs.slice(1)) + bytes(inputs.slice(1, 2));
  return bytes(inputs) + bytes(outputs);
}

function bytes(views: readonly View[]): number {
  return views.reduce((sum, view) => sum + distinctElements(view) * dtypeBytes[view.dtype], 0);
}

/** Elements of a view, those repeated by a stride of 0 counted once. */
function distinctElements({ shape, strides }: View): number {
  return shape.reduce((size, n, axis) => (strides[axis] === 0 && n > 0 ? size : size * n), 1);
}

function shapesOf({ kernel, inputs, outputs, ints }: Step): string {
  const [a, b] = inputs;
  if (kernel === "quantized_matmul" && a !== undefined) {
    const K = a.shape.at(-1) ?? 1;
    const widths = outputs.map(({ shape }) => shape.at(-1));
    return `${sizeOf(a.shape.slice(0, -1))}x${K} · ${K}x${widths.join("+")} ${["nf4", "int4", "int8"][ints[0] ?? 0]}`;
  }
  if (isProduct(kernel) && a !== undefined && b !== undefined) {
    const batch = a.shape.slice(0, -2);
    const copies = sizeOf(batch) === 1 ? "" : `${batch.join("x")} of `;
    return `${copies}${matrix(a)} · ${matrix(b)}`;
  }
  const all = [...inputs, ...outputs];
  const largest = all.reduce<View | undefined>(
    (best, view) => (best === undefined || sizeOf(view.shape) > sizeOf(best.shape) ? view : best),
    undefined,
  );
  return largest === undefined ? "" : `${largest.dtype}${formatShape(largest.shape)}`;
}

/** `768x2304`, with ᵀ where the operand lies in memory the other way round. */
function matrix({ shape, strides }: View): string {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const [down = 0, across = 0] = strides.slice(-2);
  const transposed = rows > 1 && columns > 1 && across > down;
  return `${rows}x${columns}${transposed ? "ᵀ" : ""}`;
}
