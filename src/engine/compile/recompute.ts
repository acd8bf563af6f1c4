import { dtypeBytes } from "../ir/dtype.ts";
import { sameShape, sizeOf } from "../ir/shape.ts";
import type { Node } from "../ir/tensor.ts";
import { type Cluster, type Clustered, maxNodes, takesEpilogue } from "./clusters.ts";

/** Nodes of one cluster plus what it computes again for itself, by cluster. */
export type Memberships = ReadonlyMap<Cluster, readonly number[]>;

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
export function recomputeCheap({ order, groups, clusters, inputsOf, outputs }: Clustered): Memberships {
  const members = new Map<Cluster, Set<number>>(groups.map((group) => [group, new Set(group.members)]));
  const users: number[][] = order.map(() => []);
  inputsOf.forEach((inputs, i) => {
    for (const input of inputs) users[input]?.push(i);
  });
  const isCheap = (i: number): boolean => {
    const node = order[i] as Node;
    if (node.op.lower.kind !== "elementwise") return false;
    const opcode = node.op.lower.opcode(
      node.attrs,
      node.inputs.map((tensor) => tensor.type),
    );
    return cheapOpcodes.has(opcode);
  };
  /**
   * The node and the cheap nodes of its group that only it needs to be made of; what they read must come from elsewhere. A
   * value that was rounded on the way may come from this very group: it is stored instead, in fewer bytes.
   */
  const growCone = (i: number): { cone: ReadonlySet<number>; leaves: ReadonlySet<number> } | undefined => {
    const own = clusters[i] as Cluster;
    const inGroup = (j: number): boolean => members.get(own)?.has(j) === true;
    for (const throughRounding of [true, false]) {
      const cone = new Set<number>();
      const leaves = new Set<number>();
      const isStop = (j: number): boolean => !throughRounding && bytesOf(order[j] as Node) < bytesOf(order[i] as Node);
      const grow = (j: number): void => {
        if (cone.has(j) || leaves.has(j)) return;
        const inside = inGroup(j) && isCheap(j) && sameShape(clusters[j]?.shape ?? [], own.shape) && !isStop(j);
        if (!inside || cone.size === maxRecomputed) leaves.add(j);
        else {
          cone.add(j);
          for (const input of inputsOf[j] as number[]) grow(input);
        }
      };
      grow(i);
      if ([...leaves].every((leaf) => !inGroup(leaf) || isStop(leaf))) return { cone, leaves };
    }
    return undefined;
  };
  order.forEach((node, i) => {
    const own = clusters[i] as Cluster;
    if (!isCheap(i) || outputs.has(i)) return;
    const size = sizeOf(own.shape);
    const outside = new Set((users[i] as number[]).map((user) => clusters[user] as Cluster));
    outside.delete(own);
    // Products read their operands from memory.
    if (outside.size === 0 || users[i]?.some((user) => takesEpilogue(order[user] as Node))) return;
    // A lone sum stays one, for the bits of a sum depend on the kernel that computes it.
    const readable = (group: Cluster): boolean =>
      group.fusible && sameShape(group.shape, own.shape) && group.members.some((j) => isElementwise(order[j] as Node));
    if (![...outside].every(readable)) return;
    const grown = growCone(i);
    if (grown === undefined) return;
    const { cone, leaves } = grown;
    let bytes = 0;
    for (const leaf of leaves) {
      for (const type of (order[leaf] as Node).outputs)
        if (sizeOf(type.shape) * 8 > size) bytes += sizeOf(type.shape) * dtypeBytes[type.dtype];
    }
    if (bytes > size * bytesOf(node)) return;
    for (const group of outside) {
      const set = members.get(group) as Set<number>;
      if (set.size + cone.size > maxNodes) return;
    }
    for (const group of outside) for (const j of cone) members.get(group)?.add(j);
  });
  return new Map([...members].map(([group, set]) => [group, [...set].sort((a, b) => a - b)]));
}

function bytesOf(node: Node): number {
  return dtypeBytes[node.outputs[0]?.dtype ?? "float32"];
}

function isElementwise(node: Node): boolean {
  return node.op.lower.kind === "elementwise";
}
