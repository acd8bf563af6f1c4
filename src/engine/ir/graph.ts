import type { Node, Tensor } from "./tensor.ts";

/** A traced computation: what goes in, what comes out. Its nodes are those reachable from the outputs. */
export interface Graph {
  /** Outputs of `input` nodes, in argument order. */
  readonly inputs: readonly Tensor[];
  /** Dotted name of each input, for messages: `params.h.0.attn.c_attn.weight`. */
  readonly inputNames: readonly string[];
  readonly outputs: readonly Tensor[];
  /** Indices of inputs whose memory the program may overwrite and return as outputs. */
  readonly donated: ReadonlySet<number>;
}

/** Nodes reachable from the outputs, inputs before users, in order of creation. Iterative: depth is no limit. */
export function topologicalOrder(outputs: readonly Tensor[]): Node[] {
  const seen = new Set<Node>();
  const stack: Node[] = outputs.map((t) => t.node);
  while (stack.length > 0) {
    const node = stack.pop() as Node;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) stack.push(input.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}
