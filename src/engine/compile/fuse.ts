import { sameShape, sizeOf } from "../ir/shape.ts";
import type { Node, Tensor } from "../ir/tensor.ts";
import {
  type Cluster,
  endsGroup,
  isScalarConstant,
  maxNodes,
  takesEpilogue,
  trailingReduction,
  type Unit,
} from "./clusters.ts";
import { recomputeCheap } from "./recompute.ts";
import { schedule } from "./schedule.ts";

/** Most tensors that one fused kernel reads and writes; beyond, streams compete for the cache and gain little. */
const maxOperands = 12;
/**
 * Nodes join a group only when they are this close to it in the program, so that lifetimes stay short: work of the
 * backward pass must not move into the forward pass just because its operands exist.
 */
const maxDistance = 32;
const minSiblingSize = 1024;

/** Groups a program's nodes (inputs before users) and orders the groups. `kept` are the graph's outputs. */
export function fuse(order: readonly Node[], kept: readonly Tensor[]): Unit[] {
  const index = new Map<Node, number>(order.map((node, i) => [node, i]));
  const clusters = order.map((node, i): Cluster => {
    const axes = trailingReduction(node);
    const head = takesEpilogue(node) ? i : undefined;
    const fusible = node.op.lower.kind === "elementwise" || axes !== undefined || head !== undefined;
    const shape = axes === undefined ? (node.outputs[0]?.shape ?? []) : (node.inputs[0] as Tensor).shape;
    return { members: [i], fusible, shape, reducedAxes: axes, head, mark: -1 };
  });
  const inputsOf = order.map((node) => node.inputs.map((tensor) => index.get(tensor.node) as number));
  const joiner = new Joiner(order, clusters, inputsOf);
  /** Clusters that read a value, for joining siblings. */
  const readers = new Map<number, number[]>();

  order.forEach((node, i) => {
    if (!(clusters[i] as Cluster).fusible || takesEpilogue(node)) return;
    const inputs = inputsOf[i] as number[];
    for (const input of inputs) if (i - input <= maxDistance) joiner.tryJoin(i, input);
    const { shape } = clusters[i] as Cluster;
    // A reduction joins only what makes its operand. Whether siblings join depends on sizes, and the bits of a sum depend
    // on the kernel that computes it: results must not change with the size of the batch.
    if (node.op.lower.kind !== "elementwise" || sizeOf(shape) < minSiblingSize) return;
    node.inputs.forEach((tensor, k) => {
      const input = inputs[k] as number;
      if (!sameShape(tensor.shape, shape)) return;
      const others = readers.get(input) ?? [];
      const near = others.findLast((other) => i - other <= maxDistance);
      if (near !== undefined) joiner.tryJoin(i, near);
      readers.set(input, [...others, i]);
    });
  });
  const groups = [...new Set(clusters)];
  const outputs = new Set(kept.map((tensor) => index.get(tensor.node) as number));
  const clustered = { order, groups, clusters, inputsOf, outputs };
  return schedule(clustered, recomputeCheap(clustered));
}

/** Joins clusters while the graph of clusters stays acyclic. */
class Joiner {
  readonly #order: readonly Node[];
  readonly #clusters: Cluster[];
  readonly #inputsOf: readonly (readonly number[])[];
  /** Elementwise nodes that a reduction over trailing axes reads. */
  readonly #reduced = new Set<number>();
  #search = 0;

  constructor(order: readonly Node[], clusters: Cluster[], inputsOf: readonly (readonly number[])[]) {
    this.#order = order;
    this.#clusters = clusters;
    this.#inputsOf = inputsOf;
    order.forEach((node, i) => {
      if (trailingReduction(node) === undefined) return;
      for (const input of inputsOf[i] as number[]) {
        if (order[input]?.op.lower.kind === "elementwise") this.#reduced.add(input);
      }
    });
  }

  tryJoin(i: number, j: number): boolean {
    const a = this.#clusters[i] as Cluster;
    const b = this.#clusters[j] as Cluster;
    if (a === b || !b.fusible || !sameShape(a.shape, b.shape)) return false;
    if (a.reducedAxes !== undefined && b.reducedAxes !== undefined && a.reducedAxes !== b.reducedAxes) return false;
    if (a.head !== undefined && b.head !== undefined) return false;
    // An epilogue does not reduce, and what is reduced is better made where that happens than stored.
    if ((a.head ?? b.head) !== undefined && (this.#isReduced(a) || this.#isReduced(b))) return false;
    if (a.members.length + b.members.length > maxNodes) return false;
    if (this.#operands(a, b) > maxOperands || this.#blocked(a, b) || this.#cycle(a, b)) return false;
    for (const member of b.members) this.#clusters[member] = a;
    a.members = [...a.members, ...b.members].sort((x, y) => x - y);
    a.reducedAxes ??= b.reducedAxes;
    a.head ??= b.head;
    return true;
  }

  #isReduced(cluster: Cluster): boolean {
    return cluster.reducedAxes !== undefined || cluster.members.some((member) => this.#reduced.has(member));
  }

  /** Distinct tensors that the joined cluster would read. */
  #operands(a: Cluster, b: Cluster): number {
    const seen = new Set<number>();
    for (const cluster of [a, b]) {
      for (const member of cluster.members) {
        for (const input of this.#inputsOf[member] as number[]) {
          const from = this.#clusters[input];
          if (from !== a && from !== b && !isScalarConstant(this.#order[input] as Node)) seen.add(input);
        }
      }
    }
    return seen.size;
  }

  /** A reduction's result cannot be read inside the kernel that makes it, and a product's operands not made there. */
  #blocked(a: Cluster, b: Cluster): boolean {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      for (const member of to.members) {
        for (const input of this.#inputsOf[member] as number[]) {
          if (this.#clusters[input] !== from) continue;
          if (member === to.head || endsGroup(this.#order[input] as Node)) return true;
        }
      }
    }
    return false;
  }

  /** True when one cluster depends on the other through a third. */
  #cycle(a: Cluster, b: Cluster): boolean {
    const mark = ++this.#search;
    const stack: Cluster[] = [];
    const visit = (cluster: Cluster, root: boolean): boolean => {
      for (const member of cluster.members) {
        for (const input of this.#inputsOf[member] as number[]) {
          const from = this.#clusters[input] as Cluster;
          if (from === a || from === b) {
            if (!root) return true;
          } else if (from.mark !== mark) {
            from.mark = mark;
            stack.push(from);
          }
        }
      }
      return false;
    };
    visit(a, true);
    visit(b, true);
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) if (visit(next, false)) return true;
    return false;
  }
}
