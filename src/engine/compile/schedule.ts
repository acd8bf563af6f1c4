import { dtypeBytes } from "../ir/dtype.ts";
import { sizeOf } from "../ir/shape.ts";
import type { Node, TensorType } from "../ir/tensor.ts";
import type { Cluster, Clustered, Unit } from "./clusters.ts";
import { Heap } from "./heap.ts";
import type { Memberships } from "./recompute.ts";

/** Results of a cluster that are worth no thought. */
const smallBytes = 64;

/**
 * Orders clusters: inputs before users, otherwise as the program was written, except that work which frees more memory
 * than it takes is done as soon as it can be (a gradient goes into a sum or an update when it is made).
 */
export function schedule(clustered: Clustered, memberships: Memberships): Unit[] {
  const { order, groups, clusters, inputsOf, outputs } = clustered;
  const stored = storedMembers(inputsOf, memberships, outputs);
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
  const memory = new MemoryInUse(clustered, memberships, stored);
  const position = (cluster: Cluster): number => cluster.members[cluster.members.length - 1] as number;
  const ready = new Heap<Cluster>(position);
  const eager = new Heap<Cluster>(position);
  const isReady = new Set<Cluster>();
  const isEager = new Set<Cluster>();
  const consider = (group: Cluster): void => {
    if (!isReady.has(group) || isEager.has(group)) return;
    if (!memory.isSmall(group) && !memory.isFreedBy(group)) return;
    isEager.add(group);
    eager.push(group);
  };
  const wake = (group: Cluster): void => {
    isReady.add(group);
    ready.push(group);
    consider(group);
  };
  for (const group of groups) if (waitingFor.get(group)?.size === 0) wake(group);
  const units: Unit[] = [];
  const done = new Set<Cluster>();
  for (let group = ready.pop(); group !== undefined; group = eager.pop() ?? ready.pop()) {
    if (done.has(group)) continue;
    done.add(group);
    const unit = toUnit(group, order, inputsOf, memberships, stored);
    if (unit !== undefined) units.push(unit);
    for (const user of wakes.get(group) ?? []) {
      const needs = waitingFor.get(user) as Set<Cluster>;
      needs.delete(group);
      if (needs.size === 0) wake(user);
    }
    memory.run(group).forEach(consider);
  }
  if (done.size !== groups.length) throw new Error("fuse: groups depend on each other in a circle.");
  return units;
}

/** Who still has to read which values, while clusters run one after another. */
class MemoryInUse {
  readonly #order: readonly Node[];
  /** Readers that have not run yet, by the node whose memory it is. */
  readonly #readers = new Map<number, Set<Cluster>>();
  /** The memory that a cluster reads. */
  readonly #reads = new Map<Cluster, Set<number>>();
  /** What lies in memory of its own: inputs, constants and outputs. */
  readonly #outside = new Set<number>();
  /** Clusters that make outputs, with the sizes of these. */
  readonly #leaves = new Map<Cluster, Set<number>>();
  /** Bytes that a cluster's results take. */
  readonly #takes = new Map<Cluster, number>();

  constructor({ order, groups, inputsOf, outputs }: Clustered, memberships: Memberships, stored: ReadonlySet<number>) {
    this.#order = order;
    const roots = order.map((_, i) => i);
    order.forEach(({ op, inputs }, i) => {
      if (op.lower.kind === "view" && inputs.length > 0)
        roots[i] = roots[(inputsOf[i] as number[])[0] as number] as number;
    });
    const leaving = new Set([...outputs].map((i) => roots[i] as number));
    // What goes in and out has memory of its own.
    order.forEach(({ op }, i) => {
      if (leaving.has(i) || op.lower.kind === "source") this.#outside.add(i);
    });
    for (const group of groups) {
      const members = new Set(memberships.get(group) ?? group.members);
      const reads = new Set<number>();
      const first = order[group.members[0] as number] as Node;
      if (!group.fusible && first.op.lower.kind === "view") {
        continue;
      }
      let takes = 0;
      const leaves = group.members.filter((i) => leaving.has(i));
      if (leaves.length > 0)
        this.#leaves.set(group, new Set(leaves.flatMap((i) => (order[i] as Node).outputs.map(bytesOf))));
      for (const i of members) {
        for (const input of inputsOf[i] as number[]) {
          const root = roots[input] as number;
          if (!members.has(input)) reads.add(root);
        }
      }
      for (const i of group.members)
        if ((stored.has(i) || !group.fusible) && !this.#outside.has(i)) takes += this.#bytes(i);
      this.#reads.set(group, reads);
      this.#takes.set(group, takes);
      for (const root of reads) this.#readers.set(root, (this.#readers.get(root) ?? new Set()).add(group));
    }
  }

  /** Sources and scalars: they cost nothing, and others may wait for them. */
  isSmall(group: Cluster): boolean {
    const first = this.#order[group.members[0] as number] as Node;
    const results = group.members.reduce((sum, i) => sum + this.#bytes(i), 0);
    return first.op.lower.kind === "source" || (first.op.lower.kind !== "view" && results <= smallBytes);
  }

  /** Whether running the cluster now leaves less memory in use. */
  isFreedBy(group: Cluster): boolean {
    let change = this.#takes.get(group) ?? 0;
    for (const root of this.#reads.get(group) ?? []) {
      const isLast = this.#readers.get(root)?.size === 1;
      if (!this.#outside.has(root)) change -= isLast ? this.#bytes(root) : 0;
      // What leaves may take the place of what came in, once nobody else reads that.
      else if (!isLast && this.#leaves.get(group)?.has(this.#bytes(root)) === true) return false;
    }
    return change < 0;
  }

  /** Notes that the cluster has run. Gives those that are now the last to read something. */
  run(group: Cluster): Cluster[] {
    const last: Cluster[] = [];
    for (const root of this.#reads.get(group) ?? []) {
      const readers = this.#readers.get(root) as Set<Cluster>;
      readers.delete(group);
      if (readers.size === 1) last.push(...readers);
    }
    return last;
  }

  #bytes(i: number): number {
    const { outputs } = this.#order[i] as Node;
    return outputs.reduce((sum, type) => sum + bytesOf(type), 0);
  }
}

function bytesOf({ shape, dtype }: TensorType): number {
  return sizeOf(shape) * dtypeBytes[dtype];
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
  // A reduction or a product alone needs no bytecode.
  if (nodes.length === 1 && nodes[0]?.op.lower.kind !== "elementwise") return { kind: "node", node: nodes[0] as Node };
  return {
    kind: "fused",
    nodes,
    stores: stores.map((i) => order[i] as Node),
    shape: group.shape,
    reducedAxes: group.reducedAxes ?? 0,
    ...(group.head !== undefined && needed.has(group.head) ? { head: order[group.head] as Node } : {}),
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
    for (const member of members)
      for (const input of inputsOf[member] as number[]) if (!own.has(input)) stored.add(input);
  }
  return stored;
}
