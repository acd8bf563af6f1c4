import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { inScope, type Node, reapply, type Tensor } from "../ir/tensor.ts";

/**
 * Replacement of a node's outputs, built from its inputs as already rewritten, or undefined to keep the node.
 * Called with inputs before users; new nodes carry the replaced node's scope.
 */
export type Rewrite = (node: Node, inputs: readonly Tensor[]) => readonly Tensor[] | undefined;

/**
 * Rewrites a graph node by node; gives the graph itself when nothing was replaced. Graph inputs stay the same tensors.
 * Every other node is made anew, so that ids keep the order of the program; nodes that nothing uses any more are gone,
 * since a graph is what its outputs reach. `kept` hears of the outputs of every node that stays, right after `rewrite`.
 */
export function rewriteGraph(graph: Graph, rewrite: Rewrite, kept?: (outputs: readonly Tensor[]) => void): Graph {
  const replaced = new Map<Node, readonly Tensor[]>();
  const find = (tensor: Tensor): Tensor => replaced.get(tensor.node)?.[tensor.index] ?? tensor;
  let changed = false;
  for (const node of topologicalOrder(graph.outputs)) {
    if (node.op.name === "input") continue;
    const inputs = node.inputs.map(find);
    let outputs = inScope(node.scope, () => rewrite(node, inputs));
    if (outputs === undefined) {
      outputs = reapply(node, inputs);
      kept?.(outputs);
    } else {
      changed = true;
    }
    replaced.set(node, outputs);
  }
  return changed ? { ...graph, outputs: graph.outputs.map(find) } : graph;
}
