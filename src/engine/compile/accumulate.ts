import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { sameShape } from "../ir/shape.ts";
import { apply, inScope, type Node, type Tensor } from "../ir/tensor.ts";
import { addOp } from "../ops/arithmetic.ts";
import { scatterAddOp } from "../ops/gather.ts";
import { matmulOp } from "../ops/matmul.ts";
import { matmulAddOp } from "../ops/matmul-add.ts";
import { Rebuild } from "./rewrite.ts";
import { Uses } from "./uses.ts";

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
  const uses = new Uses(graph);
  const { order } = uses;
  const donated = new Set([...graph.donated].map((i) => (graph.inputs[i] as Tensor).node));
  const additions = findAdditions(uses, donated);
  if (additions.size === 0) return graph;
  const rebuild = new Rebuild();
  const ensureGiven = (base: Tensor): void => {
    if (isGiven(base.node, donated)) topologicalOrder([base]).forEach(rebuild.ensure);
  };
  /** Additions whose base does not exist yet where the product does: made where the addition stood. */
  const late = new Map<Node, Node>();
  const accumulate = (node: Node, { sum, base }: Addition): void => {
    const inputs = [...node.inputs, base].map(rebuild.find);
    const op = node.op === matmulOp ? matmulAddOp : node.op;
    rebuild.replace(
      sum,
      inScope(node.scope, () => apply(op, inputs, node.attrs)),
    );
  };
  for (const node of order) {
    const addition = additions.get(node);
    if (addition !== undefined) {
      ensureGiven(addition.base);
      if (rebuild.isMade(addition.base.node)) accumulate(node, addition);
      else late.set(addition.sum, node);
      continue;
    }
    const product = late.get(node);
    if (product === undefined) rebuild.ensure(node);
    else accumulate(product, additions.get(product) as Addition);
  }
  return rebuild.finish(graph);
}

function findAdditions(uses: Uses, donated: ReadonlySet<Node>): Map<Node, Addition> {
  const additions = new Map<Node, Addition>();
  const sums = new Set<Node>();
  /** Values that exist to be added to: products and scatters, sums of them, and buffers given to be overwritten. */
  const isSum = (base: Tensor): boolean =>
    base.dtype === "float32" && (canAccumulate(base) || sums.has(base.node) || isGiven(base.node, donated));
  for (const node of uses.order) {
    const [a, b] = node.inputs;
    if (node.op !== addOp || a === undefined || b === undefined || !sameShape(a.shape, b.shape)) continue;
    // Of two products the later is added to the earlier.
    const [first, second] = a.node.id < b.node.id ? [a, b] : [b, a];
    const fits = (base: Tensor, added: Tensor): boolean =>
      canAccumulate(added) && uses.count(added.node) === 1 && isSum(base);
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
