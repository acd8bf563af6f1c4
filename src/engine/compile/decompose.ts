import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { rewriteGraph } from "./rewrite.ts";

const deepest = 16;

/** Replaces composite ops that have no kernel of their own by their decompositions, until none is left. */
export function decompose(graph: Graph): Graph {
  let current = graph;
  for (let depth = 0; depth < deepest; depth++) {
    if (!topologicalOrder(current.outputs).some((node) => node.op.lower.kind === "decompose")) return current;
    current = rewriteGraph(current, (node, inputs) => {
      if (node.op.lower.kind !== "decompose") return undefined;
      if (node.op.decompose === undefined)
        throw new Error(`${node.op.name}: lowers by decomposition but defines none.`);
      return node.op.decompose(inputs, node.attrs);
    });
  }
  throw new Error(`decompose: still composite after ${deepest} rounds; some op decomposes into itself.`);
}
