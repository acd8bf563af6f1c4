import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { sameShape } from "../ir/shape.ts";
import { apply, inScope, type Node, reapply, type Tensor } from "../ir/tensor.ts";
import { addOp } from "../ops/arithmetic.ts";
import { scatterAddOp } from "../ops/gather.ts";
import { matmulOp } from "../ops/matmul.ts";
import { matmulAddOp } from "../ops/matmul-add.ts";

/** An addition that the kernel making one of its operands does as well. */
interface Addition {
  readonly sum: Node;
  /** What is added to. */
  readonly base: Tensor;
}

/**
 * Sums that a large product or scatter goes into (gradients of shared weights, of a head in chunks, of micro-batches) are
 * added to in place by the kernel that makes it, when it makes it: no second buffer of the size of the weight. For the
 * native backend, behind the passes that look for products.
 */
export function accumulateInPlace(graph: Graph): Graph {
  const order = topologicalOrder(graph.outputs);
  const donated = new Set([...graph.donated].map((i) => (graph.inputs[i] as Tensor).node));
  const additions = findAdditions(order, graph, donated);
  if (additions.size === 0) return graph;
  const replaced = new Map<Node, readonly Tensor[]>();
  const find = (tensor: Tensor): Tensor => replaced.get(tensor.node)?.[tensor.index] ?? tensor;
  const isMade = ({ node }: Tensor): boolean => node.op.name === "input" || replaced.has(node);
  const rebuild = (node: Node): void => {
    if (isMade({ node } as Tensor)) return;
    const outputs = inScope(node.scope, () => reapply(node, node.inputs.map(find)));
    replaced.set(node, outputs);
  };
  const rebuildFromInputs = (tensor: Tensor): void => {
    if (isMade(tensor) || !isGiven(tensor.node, donated)) return;
    for (const node of topologicalOrder([tensor])) rebuild(node);
  };
  /** Additions whose base does not exist yet where the product does: made where the addition stood. */
  const late = new Map<Node, Node>();
  const accumulate = (node: Node, { sum, base }: Addition): void => {
    const inputs = [...node.inputs, base].map(find);
    const op = node.op === matmulOp ? matmulAddOp : node.op;
    replaced.set(
      sum,
      inScope(node.scope, () => apply(op, inputs, node.attrs)),
    );
  };
  for (const node of order) {
    const addition = additions.get(node);
    if (addition !== undefined) {
      rebuildFromInputs(addition.base);
      if (isMade(addition.base)) accumulate(node, addition);
      else late.set(addition.sum, node);
      continue;
    }
    const product = late.get(node);
    if (product === undefined) rebuild(node);
    else accumulate(product, additions.get(product) as Addition);
  }
  return { ...graph, outputs: graph.outputs.map(find) };
}

function findAdditions(order: readonly Node[], graph: Graph, donated: ReadonlySet<Node>): Map<Node, Addition> {
  const users = new Map<Node, number>();
  const use = ({ node }: Tensor): void => {
    users.set(node, (users.get(node) ?? 0) + 1);
  };
  for (const node of order) node.inputs.forEach(use);
  graph.outputs.forEach(use);
  const additions = new Map<Node, Addition>();
  const sums = new Set<Node>();
  /** Values that exist to be added to: products and scatters, sums of them, and buffers given to be overwritten. */
  const isSum = (base: Tensor): boolean =>
    base.dtype === "float32" && (canAccumulate(base) || sums.has(base.node) || isGiven(base.node, donated));
  for (const node of order) {
    const [a, b] = node.inputs;
    if (node.op !== addOp || a === undefined || b === undefined || !sameShape(a.shape, b.shape)) continue;
    // Of two products the later is added to the earlier.
    const [first, second] = a.node.id < b.node.id ? [a, b] : [b, a];
    const fits = (base: Tensor, added: Tensor): boolean =>
      canAccumulate(added) && users.get(added.node) === 1 && isSum(base);
    const swapped = !fits(first, second);
    if (swapped && !fits(second, first)) continue;
    const [base, added] = swapped ? [second, first] : [first, second];
    additions.set(added.node, { sum: node, base });
    sums.add(node);
  }
  return additions;
}

function canAccumulate({ node, dtype }: Tensor): boolean {
  if (dtype !== "float32" || node.inputs.length !== 2) return false;
  return node.op === scatterAddOp || (node.op === matmulOp && node.outputs[0]?.shape.length === 2);
}

/** A donated input, perhaps scaled by a scalar. */
function isGiven(node: Node, donated: ReadonlySet<Node>): boolean {
  if (node.op.name !== "mul") return donated.has(node);
  return node.inputs.every((t) => donated.has(t.node) || (t.node.op.name === "input" && t.rank === 0));
}
