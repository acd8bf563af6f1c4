import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { simplifyAlgebra } from "./algebra.ts";
import { mergeCommonSubexpressions } from "./common-subexpressions.ts";
import { decompose } from "./decompose.ts";
import { foldConstants } from "./fold-constants.ts";

const passes = [foldConstants, simplifyAlgebra, mergeCommonSubexpressions];
const maxRounds = 4;

/**
 * The passes that every backend shares: composite ops are taken apart, then constants fold, algebra simplifies and
 * common subexpressions merge until the graph stops shrinking. Unused nodes vanish by themselves.
 */
export function simplify(graph: Graph): Graph {
  let current = decompose(graph);
  let size = nodeCount(current);
  for (let round = 0; round < maxRounds; round++) {
    for (const pass of passes) current = pass(current);
    const next = nodeCount(current);
    if (next >= size) break;
    size = next;
  }
  return current;
}

function nodeCount(graph: Graph): number {
  return topologicalOrder(graph.outputs).length;
}
