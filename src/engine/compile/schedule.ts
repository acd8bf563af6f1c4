import type { Node } from "../ir/tensor.ts";
import type { Cluster, Clustered, Unit } from "./clusters.ts";
import { Heap } from "./heap.ts";
import type { Memberships } from "./recompute.ts";

/** Orders clusters: inputs before users, otherwise as the program was written. */
export function schedule({ order, groups, clusters, inputsOf, outputs }: Clustered, memberships: Memberships): Unit[] {
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
    for (const member of members)
      for (const input of inputsOf[member] as number[]) if (!own.has(input)) stored.add(input);
  }
  return stored;
}
