import { type Shape, sizeOf } from "../ir/shape.ts";
import type { Node, Tensor } from "../ir/tensor.ts";

/**
 * Nodes that run as one kernel over one iteration shape: elementwise ops, and either reductions over the trailing axes
 * at their end (kernel `fused`) or the product that they start from (its epilogue). A cheap node may be in several groups
 * (computed again rather than stored).
 */
export interface FusedGroup {
  readonly kind: "fused";
  /** Inputs before users. */
  readonly nodes: readonly Node[];
  /** Those whose results leave the kernel. */
  readonly stores: readonly Node[];
  readonly shape: Shape;
  /** How many trailing axes the group's reductions fold; 0 without reductions. */
  readonly reducedAxes: number;
  /** The product whose elements the group goes on with. */
  readonly head?: Node;
}

/** What is executed in order: a fused group, or a node on its own (kernels, views, sources). */
export type Unit = FusedGroup | { readonly kind: "node"; readonly node: Node };

/** Most nodes in one fused kernel. */
export const maxNodes = 48;

/** Nodes on their way to becoming a unit, by index in the program. */
export interface Cluster {
  members: number[];
  readonly fusible: boolean;
  readonly shape: Shape;
  reducedAxes: number | undefined;
  /** The product in it, of which there is at most one. */
  head: number | undefined;
  /** Mark of the last search that visited this cluster. */
  mark: number;
}

/** A program cut into clusters. Indices are positions in `order`. */
export interface Clustered {
  readonly order: readonly Node[];
  readonly groups: readonly Cluster[];
  /** The cluster of each node. */
  readonly clusters: readonly Cluster[];
  /** The nodes that each node reads. */
  readonly inputsOf: readonly (readonly number[])[];
  /** Nodes whose results are outputs of the graph. */
  readonly outputs: ReadonlySet<number>;
}

/** Trailing axes folded by a node that lowers to `reduce`, or undefined when it folds others. */
export function trailingReduction(node: Node): number | undefined {
  if (node.op.lower.kind !== "kernel" || node.op.lower.kernel !== "reduce") return undefined;
  const [, ...axes] = node.op.lower.ints?.(node) ?? [];
  const rank = (node.inputs[0] as Tensor).rank;
  const sorted = axes.toSorted((a, b) => a - b);
  return axes.length > 0 && sorted.every((axis, i) => axis === rank - axes.length + i) ? axes.length : undefined;
}

/** True for products, whose kernel runs an epilogue of elementwise ops on its result. */
export function takesEpilogue(node: Node): boolean {
  return node.op.name === "matmul";
}

/** True for values that a fused kernel must store before anything in it may read them. */
export function endsGroup(node: Node): boolean {
  return node.op.lower.kind !== "elementwise" && !takesEpilogue(node);
}

/** True for constants of one element, which fused kernels hold in their code. */
export function isScalarConstant(node: Node): boolean {
  return node.op.name === "constant" && sizeOf(node.outputs[0]?.shape ?? [0]) === 1;
}
