import type { Graph } from "../ir/graph.ts";
import { simplifyAlgebra } from "./algebra.ts";
import { mergeCommonSubexpressions } from "./common-subexpressions.ts";
import { decompose } from "./decompose.ts";
import { foldConstants } from "./fold-constants.ts";
import { shareLossWithGradient } from "./loss-with-gradient.ts";

const passes = [foldConstants, simplifyAlgebra, mergeCommonSubexpressions];
const maxRounds = 8;

/**
 * The passes that every backend shares: losses join their gradients, composite ops are taken apart, then constants fold,
 * algebra simplifies and common subexpressions merge until nothing changes. Unused nodes vanish by themselves.
 */
export function simplify(graph: Graph): Graph {
  let current = decompose(shareLossWithGradient(graph));
  for (let round = 0; round < maxRounds; round++) {
    const before = current;
    for (const pass of passes) current = pass(current);
    if (current === before) break;
  }
  return current;
}
