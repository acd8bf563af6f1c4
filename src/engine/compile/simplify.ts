import type { Graph } from "../ir/graph.ts";

/** The passes that every backend shares, in order. */
export function simplify(graph: Graph): Graph {
  return graph;
}
