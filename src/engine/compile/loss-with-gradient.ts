import { type Graph, topologicalOrder } from "../ir/graph.ts";
import type { Node, Tensor } from "../ir/tensor.ts";
import { linearCrossEntropyGradOp, linearCrossEntropyOp } from "../ops/linear-cross-entropy.ts";
import { Rebuild } from "./rewrite.ts";

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
      `${node.inputs.slice(0, 3).map((t) => `${t.node.id}.${t.index}`)}|${node.attrs["ignoreIndex"]}|${node.attrs["softCap"]}`;
    if (node.op === linearCrossEntropyOp) losses.set(key(), node);
    if (node.op !== linearCrossEntropyGradOp) continue;
    const loss = losses.get(key());
    if (loss !== undefined && !pairs.has(loss) && !topologicalOrder([node.inputs[3] as Tensor]).includes(loss))
      pairs.set(loss, node);
  }
  if (pairs.size === 0) return graph;

  const rebuild = new Rebuild();
  for (const node of order) {
    const both = pairs.get(node);
    if (both === undefined) {
      rebuild.ensure(node);
      continue;
    }
    // What the gradients need comes forward with them.
    topologicalOrder([both.inputs[3] as Tensor]).forEach(rebuild.ensure);
    rebuild.replace(node, rebuild.copy(both).slice(0, 1));
  }
  return rebuild.finish(graph);
}
