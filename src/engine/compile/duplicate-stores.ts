import type { Node } from "../ir/tensor.ts";
import type { Unit } from "./clusters.ts";

type Fused = Extract<Unit, { kind: "fused" }>;

/**
 * A fused unit without stores of values that it stores already, and for each store left out the one that stands for it. A
 * value computed again to save memory (`rematerialise.ts`) may end up beside the first after all.
 */
export function withoutDuplicateStores(unit: Fused): { unit: Fused; same: ReadonlyMap<Node, Node> } {
  const same = new Map<Node, Node>();
  if (unit.stores.length < 2) return { unit, same };
  const names = new Map<Node, string>();
  const own = new Set(unit.nodes);
  const first = new Map<string, Node>();
  for (const node of unit.nodes) {
    const simple = Object.values(node.attrs).every((value) => typeof value !== "object" && typeof value !== "function");
    const inputs = node.inputs.map((t) => `${names.get(t.node) ?? `#${t.node.id}`}.${t.index}`);
    const isPlain = simple && node.op.lower.kind === "elementwise";
    const key = `${node.op.name} ${JSON.stringify(node.attrs)} ${node.outputs[0]?.dtype} ${inputs.join()}`;
    const known = isPlain ? names.get(first.get(key) ?? node) : undefined;
    names.set(node, known ?? `#${node.id}`);
    if (isPlain && known === undefined) first.set(key, node);
  }
  const stored = new Map<string, Node>();
  for (const node of unit.stores) {
    const name = names.get(node) ?? `#${node.id}`;
    const earlier = stored.get(name);
    if (earlier === undefined) stored.set(name, node);
    else same.set(node, earlier);
  }
  if (same.size === 0) return { unit, same };
  const stores = unit.stores.filter((node) => !same.has(node));
  const needed = new Set<Node>();
  const visit = (node: Node): void => {
    if (!own.has(node) || needed.has(node)) return;
    needed.add(node);
    for (const input of node.inputs) visit(input.node);
  };
  stores.forEach(visit);
  return { unit: { ...unit, nodes: unit.nodes.filter((node) => needed.has(node)), stores }, same };
}
