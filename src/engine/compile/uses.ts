import { type Graph, topologicalOrder } from "../ir/graph.ts";
import type { Node, Tensor } from "../ir/tensor.ts";

/** An operand of a node. */
export interface Use {
  readonly node: Node;
  readonly slot: number;
}

/** Who reads what in a graph. */
export class Uses {
  /** The graph's nodes, inputs before users. */
  readonly order: readonly Node[];
  /** Readers by node and output. */
  readonly #readers = new Map<Node, Use[][]>();
  /** Which outputs of a node the graph gives, as often as it gives them. */
  readonly #given = new Map<Node, number[]>();

  constructor({ outputs }: Graph) {
    this.order = topologicalOrder(outputs);
    for (const node of this.order) {
      const none = node.outputs.map((): Use[] => []);
      this.#readers.set(node, none);
      node.inputs.forEach((tensor, slot) => {
        this.#readers.get(tensor.node)?.[tensor.index]?.push({ node, slot });
      });
    }
    for (const { node, index } of outputs) this.#given.set(node, [...(this.#given.get(node) ?? []), index]);
  }

  /** Operands that read this value, in the graph's order. */
  of({ node, index }: Pick<Tensor, "node" | "index">): readonly Use[] {
    return this.#readers.get(node)?.[index] ?? [];
  }

  isOutput({ node, index }: Pick<Tensor, "node" | "index">): boolean {
    return this.#given.get(node)?.includes(index) === true;
  }

  /** Operands and graph outputs that read the node, whichever of its outputs. */
  count(node: Node): number {
    const readers = (this.#readers.get(node) ?? []).reduce((sum, uses) => sum + uses.length, 0);
    return readers + (this.#given.get(node)?.length ?? 0);
  }
}
