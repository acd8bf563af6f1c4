import { type DType, dtypeBytes, isFloating } from "../ir/dtype.ts";
import { type Shape, sameShape, sizeOf } from "../ir/shape.ts";
import type { Node, Tensor } from "../ir/tensor.ts";
import { Heap } from "./heap.ts";

/**
 * Nodes that run as one `fused` kernel over one iteration shape: elementwise ops, and reductions over the trailing
 * axes at their end. A cheap node may be in several groups (computed again rather than stored).
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
}

/** What is executed in order: a fused group, or a node on its own (kernels, views, sources). */
export type Unit = FusedGroup | { readonly kind: "node"; readonly node: Node };

/** Most tensors that one fused kernel reads and writes; beyond, streams compete for the cache and gain little. */
const maxOperands = 12;
const maxNodes = 48;
/**
 * Nodes join a group only when they are this close to it in the program, so that lifetimes stay short: work of the
 * backward pass must not move into the forward pass just because its operands exist.
 */
const maxDistance = 32;
const minSiblingSize = 1024;

interface Cluster {
  members: number[];
  readonly fusible: boolean;
  readonly shape: Shape;
  reducedAxes: number | undefined;
  /** Mark of the last search that visited this cluster. */
  mark: number;
}

/** Trailing axes folded by a node that lowers to `reduce`, or undefined when it folds others. */
export function trailingReduction(node: Node): number | undefined {
  if (node.op.lower.kind !== "kernel" || node.op.lower.kernel !== "reduce") return undefined;
  const [, ...axes] = node.op.lower.ints?.(node) ?? [];
  const rank = (node.inputs[0] as Tensor).rank;
  const sorted = axes.toSorted((a, b) => a - b);
  return axes.length > 0 && sorted.every((axis, i) => axis === rank - axes.length + i) ? axes.length : undefined;
}

/** True for values that a fused kernel must store before anything in it may read them. */
function endsGroup(node: Node): boolean {
  const dtype = node.outputs[0]?.dtype;
  return node.op.lower.kind !== "elementwise" || (dtype !== "float32" && dtype !== undefined && isFloating(dtype));
}

/** Groups a program's nodes (inputs before users) and orders the groups. `kept` are the graph's outputs. */
export function fuse(order: readonly Node[], kept: readonly Tensor[]): Unit[] {
  const index = new Map<Node, number>(order.map((node, i) => [node, i]));
  const clusters = order.map((node, i): Cluster => {
    const axes = trailingReduction(node);
    const fusible = node.op.lower.kind === "elementwise" || axes !== undefined;
    const shape = axes === undefined ? (node.outputs[0]?.shape ?? []) : (node.inputs[0] as Tensor).shape;
    return { members: [i], fusible, shape, reducedAxes: axes, mark: -1 };
  });
  const inputsOf = order.map((node) => node.inputs.map((tensor) => index.get(tensor.node) as number));
  const joiner = new Joiner(order, clusters, inputsOf);
  /** Clusters that read a value, for joining siblings. */
  const readers = new Map<number, number[]>();

  order.forEach((node, i) => {
    if (!(clusters[i] as Cluster).fusible) return;
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
  const memberships = recomputeCheap(order, groups, clusters, inputsOf, outputs);
  return schedule(order, groups, clusters, inputsOf, memberships, storedMembers(inputsOf, memberships, outputs));
}

/** Joins clusters while the graph of clusters stays acyclic. */
class Joiner {
  readonly #order: readonly Node[];
  readonly #clusters: Cluster[];
  readonly #inputsOf: readonly (readonly number[])[];
  #search = 0;

  constructor(order: readonly Node[], clusters: Cluster[], inputsOf: readonly (readonly number[])[]) {
    this.#order = order;
    this.#clusters = clusters;
    this.#inputsOf = inputsOf;
  }

  tryJoin(i: number, j: number): boolean {
    const a = this.#clusters[i] as Cluster;
    const b = this.#clusters[j] as Cluster;
    if (a === b || !b.fusible || !sameShape(a.shape, b.shape)) return false;
    if (a.reducedAxes !== undefined && b.reducedAxes !== undefined && a.reducedAxes !== b.reducedAxes) return false;
    if (a.members.length + b.members.length > maxNodes) return false;
    if (this.#operands(a, b) > maxOperands || this.#blocked(a, b) || this.#cycle(a, b)) return false;
    for (const member of b.members) this.#clusters[member] = a;
    a.members = [...a.members, ...b.members].sort((x, y) => x - y);
    a.reducedAxes ??= b.reducedAxes;
    return true;
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

  /** A reduction's or a narrow float's result cannot be read inside the kernel that makes it. */
  #blocked(a: Cluster, b: Cluster): boolean {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      for (const member of to.members) {
        for (const input of this.#inputsOf[member] as number[]) {
          if (this.#clusters[input] === from && endsGroup(this.#order[input] as Node)) return true;
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

export function isScalarConstant(node: Node): boolean {
  return node.op.name === "constant" && sizeOf(node.outputs[0]?.shape ?? [0]) === 1;
}

/** Nodes of one cluster plus what it computes again for itself, by cluster. */
type Memberships = ReadonlyMap<Cluster, readonly number[]>;

/** Ops worth computing twice rather than passing through memory. */
const cheapOpcodes = new Set(
  "add sub mul neg abs max min relu square lt le eq ne gt ge and or not select sign identity iadd isub imul int_to_float".split(
    " ",
  ),
);
const maxRecomputed = 4;

/**
 * Where a group would store a value only for other groups to read back, and the value follows from at most one full
 * sized tensor by a few cheap ops (a product plus its bias), the readers compute it again: a store and a buffer less.
 */
function recomputeCheap(
  order: readonly Node[],
  groups: readonly Cluster[],
  clusters: readonly Cluster[],
  inputsOf: readonly (readonly number[])[],
  outputs: ReadonlySet<number>,
): Memberships {
  const members = new Map<Cluster, Set<number>>(groups.map((group) => [group, new Set(group.members)]));
  const users: number[][] = order.map(() => []);
  inputsOf.forEach((inputs, i) => {
    for (const input of inputs) users[input]?.push(i);
  });
  const isCheap = (i: number): boolean => {
    const node = order[i] as Node;
    if (node.op.lower.kind !== "elementwise" || endsGroup(node)) return false;
    const opcode = node.op.lower.opcode(
      node.attrs,
      node.inputs.map((tensor) => tensor.type),
    );
    return cheapOpcodes.has(opcode);
  };
  order.forEach((node, i) => {
    const own = clusters[i] as Cluster;
    if (!isCheap(i) || outputs.has(i)) return;
    const size = sizeOf(own.shape);
    const outside = new Set((users[i] as number[]).map((user) => clusters[user] as Cluster));
    outside.delete(own);
    if (outside.size === 0) return;
    const readable = (group: Cluster): boolean => group.fusible && sameShape(group.shape, own.shape);
    if (![...outside].every(readable)) return;
    // The cone: this node and the cheap nodes of its group that only it needs to be made of.
    const cone = new Set<number>();
    const leaves = new Set<number>();
    const grow = (j: number): void => {
      if (cone.has(j) || leaves.has(j)) return;
      const inside = members.get(own)?.has(j) === true && isCheap(j) && sameShape(clusters[j]?.shape ?? [], own.shape);
      if (!inside || cone.size === maxRecomputed) leaves.add(j);
      else {
        cone.add(j);
        for (const input of inputsOf[j] as number[]) grow(input);
      }
    };
    grow(i);
    let bytes = 0;
    for (const leaf of leaves) {
      const source = order[leaf] as Node;
      // A leaf made in this very group would have to be stored instead.
      if (members.get(own)?.has(leaf) === true) return;
      for (const type of source.outputs) if (sizeOf(type.shape) * 8 > size) bytes += sizeOf(type.shape) * width(type.dtype);
    }
    if (bytes > size * width(node.outputs[0]?.dtype ?? "float32")) return;
    for (const group of outside) {
      const set = members.get(group) as Set<number>;
      if (set.size + cone.size > maxNodes) return;
    }
    for (const group of outside) for (const j of cone) members.get(group)?.add(j);
  });
  return new Map([...members].map(([group, set]) => [group, [...set].sort((a, b) => a - b)]));
}

function width(dtype: DType): number {
  return dtypeBytes[dtype];
}

/** Orders clusters: inputs before users, otherwise as the program was written. */
function schedule(
  order: readonly Node[],
  groups: readonly Cluster[],
  clusters: readonly Cluster[],
  inputsOf: readonly (readonly number[])[],
  memberships: Memberships,
  stored: ReadonlySet<number>,
): Unit[] {
  const waitingFor = new Map<Cluster, Set<Cluster>>();
  const wakes = new Map<Cluster, Cluster[]>();
  for (const group of groups) {
    const needs = new Set<Cluster>();
    for (const member of group.members) {
      for (const input of inputsOf[member] as number[]) {
        const from = clusters[input] as Cluster;
        if (from !== group) needs.add(from);
      }
    }
    waitingFor.set(group, needs);
    for (const from of needs) wakes.set(from, [...(wakes.get(from) ?? []), group]);
  }
  const ready = new Heap<Cluster>((cluster) => cluster.members[cluster.members.length - 1] as number);
  for (const group of groups) if (waitingFor.get(group)?.size === 0) ready.push(group);
  const units: Unit[] = [];
  let done = 0;
  for (let group = ready.pop(); group !== undefined; group = ready.pop()) {
    const unit = toUnit(group, order, inputsOf, memberships, stored);
    if (unit !== undefined) units.push(unit);
    done++;
    for (const user of wakes.get(group) ?? []) {
      const needs = waitingFor.get(user) as Set<Cluster>;
      needs.delete(group);
      if (needs.size === 0) ready.push(user);
    }
  }
  if (done !== groups.length) throw new Error("fuse: groups depend on each other in a circle.");
  return units;
}

/** The cluster as a unit: without what only other groups needed and now compute themselves. Undefined when nothing is left. */
function toUnit(
  group: Cluster,
  order: readonly Node[],
  inputsOf: readonly (readonly number[])[],
  memberships: Memberships,
  stored: ReadonlySet<number>,
): Unit | undefined {
  const first = order[group.members[0] as number] as Node;
  if (!group.fusible) return { kind: "node", node: first };
  const members = new Set(memberships.get(group) ?? group.members);
  const needed = new Set<number>();
  const stores = group.members.filter((member) => stored.has(member));
  const stack = [...stores];
  for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
    if (needed.has(i) || !members.has(i)) continue;
    needed.add(i);
    stack.push(...(inputsOf[i] as number[]));
  }
  const nodes = [...needed].sort((a, b) => a - b).map((i) => order[i] as Node);
  if (nodes.length === 0) return undefined;
  // A reduction alone needs no bytecode: `reduce` does it.
  if (nodes.length === 1 && nodes[0]?.op.lower.kind !== "elementwise") return { kind: "node", node: nodes[0] as Node };
  return {
    kind: "fused",
    nodes,
    stores: stores.map((i) => order[i] as Node),
    shape: group.shape,
    reducedAxes: group.reducedAxes ?? 0,
  };
}

/** Members that some other group reads, and outputs of the graph. */
function storedMembers(
  inputsOf: readonly (readonly number[])[],
  memberships: Memberships,
  outputs: Iterable<number>,
): Set<number> {
  const stored = new Set(outputs);
  for (const members of memberships.values()) {
    const own = new Set(members);
    for (const member of members) for (const input of inputsOf[member] as number[]) if (!own.has(input)) stored.add(input);
  }
  return stored;
}
