import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { inScope, type Node, reapply, type Tensor } from "../ir/tensor.ts";

/** Makes a graph anew, node by node. Graph inputs stay the same tensors. */
export class Rebuild {
  readonly #made = new Map<Node, readonly Tensor[]>();

  /** What stands for a tensor of the old graph: itself as long as nothing else does. */
  readonly find = (tensor: Tensor): Tensor => this.#made.get(tensor.node)?.[tensor.index] ?? tensor;

  /** True where {@link find} gives tensors that the new graph may use. */
  isMade(node: Node): boolean {
    return node.op.name === "input" || this.#made.has(node);
  }

  /** Lets `outputs` stand for those of a node. */
  replace(node: Node, outputs: readonly Tensor[]): void {
    this.#made.set(node, outputs);
  }

  /** Puts the same node on new inputs in a node's place, and gives its outputs. */
  copy(node: Node, inputs: readonly Tensor[] = node.inputs.map(this.find)): readonly Tensor[] {
    const outputs = inScope(node.scope, () => reapply(node, inputs));
    this.replace(node, outputs);
    return outputs;
  }

  /** Copies a node that is not made yet. */
  readonly ensure = (node: Node): void => {
    if (!this.isMade(node)) this.copy(node);
  };

  /** The new graph: what stands for the old one's outputs. */
  finish(graph: Graph): Graph {
    return { ...graph, outputs: graph.outputs.map(this.find) };
  }
}

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
  const rebuild = new Rebuild();
  let changed = false;
  for (const node of topologicalOrder(graph.outputs)) {
    if (node.op.name === "input") continue;
    const inputs = node.inputs.map(rebuild.find);
    const outputs = inScope(node.scope, () => rewrite(node, inputs));
    if (outputs !== undefined) {
      changed = true;
      rebuild.replace(node, outputs);
      continue;
    }
    const copied = rebuild.copy(node, inputs);
    kept?.(copied);
  }
  return changed ? rebuild.finish(graph) : graph;
}
