import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { inScope, type Node, reapply, type Tensor } from "../ir/tensor.ts";
import { linearCrossEntropyGradOp, linearCrossEntropyOp } from "../ops/linear-cross-entropy.ts";

/**
 * Takes the losses of a chunked head from the op that computes their gradients too, so that the logits are made once.
 * Possible where what flows back into the losses does not depend on them: for a sum or a mean over tokens, always.
 */
export function shareLossWithGradient(graph: Graph): Graph {
  const order = topologicalOrder(graph.outputs);
  const losses = new Map<string, Node>();
  /** Node of the losses to the node that computes them with their gradients. */
  const pairs = new Map<Node, Node>();
  for (const node of order) {
    const key = (): string =>
      `${node.inputs.slice(0, 3).map((t) => `${t.node.id}.${t.index}`)}|${node.attrs["ignoreIndex"]}`;
    if (node.op === linearCrossEntropyOp) losses.set(key(), node);
    if (node.op !== linearCrossEntropyGradOp) continue;
    const loss = losses.get(key());
    if (loss !== undefined && !pairs.has(loss) && !topologicalOrder([node.inputs[3] as Tensor]).includes(loss))
      pairs.set(loss, node);
  }
  if (pairs.size === 0) return graph;

  const replaced = new Map<Node, readonly Tensor[]>();
  const find = (tensor: Tensor): Tensor => replaced.get(tensor.node)?.[tensor.index] ?? tensor;
  const rebuild = (node: Node): void => {
    if (node.op.name === "input" || replaced.has(node)) return;
    replaced.set(
      node,
      inScope(node.scope, () => reapply(node, node.inputs.map(find))),
    );
  };
  for (const node of order) {
    const both = pairs.get(node);
    if (both === undefined) {
      rebuild(node);
      continue;
    }
    // What the gradients need comes forward with them.
    for (const earlier of topologicalOrder([both.inputs[3] as Tensor])) rebuild(earlier);
    rebuild(both);
    replaced.set(node, [(replaced.get(both) as readonly Tensor[])[0] as Tensor]);
  }
  return { ...graph, outputs: graph.outputs.map(find) };
}
