import type { Graph } from "../ir/graph.ts";
import { NdArray } from "../ir/nd-array.ts";
import type { AttrValue, Node, Tensor } from "../ir/tensor.ts";
import { rewriteGraph } from "./rewrite.ts";

/**
 * Computes equal things once: nodes of the same op, attributes and inputs become one. Random ops too: their values are
 * a function of key and stream.
 */
export function mergeCommonSubexpressions(graph: Graph): Graph {
  const keys = new AttrKeys();
  const known = new Map<string, readonly Tensor[]>();
  const keyOf = (node: Node, inputs: readonly Tensor[]): string =>
    `${node.op.name}|${inputs.map((tensor) => `${tensor.node.id}.${tensor.index}`).join(",")}|${keys.of(node)}`;
  let key = "";
  return rewriteGraph(
    graph,
    (node, inputs) => {
      key = keyOf(node, inputs);
      return known.get(key);
    },
    (outputs) => known.set(key, outputs),
  );
}

const maxComparedElements = 256;

/** Text that is equal exactly for attributes of equal meaning. */
class AttrKeys {
  readonly #identities = new Map<unknown, number>();

  of(node: Node): string {
    let text = "";
    for (const [key, value] of Object.entries(node.attrs))
      if (value !== undefined) text += `${key}=${this.#key(value)};`;
    return text;
  }

  #key(value: AttrValue): string {
    if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
    if (typeof value === "string") return JSON.stringify(value);
    if (typeof value === "boolean" || value === null || value === undefined) return String(value);
    if (Array.isArray(value)) return `[${value.map((item) => this.#key(item as AttrValue)).join(",")}]`;
    if (value instanceof NdArray && value.size <= maxComparedElements) {
      const { buffer, byteOffset, byteLength } = value.data;
      return `${value.dtype}[${value.shape.join(",")}]${Buffer.from(buffer, byteOffset, byteLength).toString("base64")}`;
    }
    // Large arrays, functions and anything else are equal only to themselves.
    let identity = this.#identities.get(value);
    if (identity === undefined) {
      identity = this.#identities.size;
      this.#identities.set(value, identity);
    }
    return `#${identity}`;
  }
}
