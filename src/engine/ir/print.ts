import { type Graph, topologicalOrder } from "./graph.ts";
import { NdArray } from "./nd-array.ts";
import { formatShape } from "./shape.ts";
import type { Attrs, AttrValue, Node, Tensor, TensorType } from "./tensor.ts";

/**
 * A graph as text, one line per node in program order:
 * `%12 = matmul(%3, %11, transposeB: true) : float32[8,256,1152]   ; h.0.attn`.
 * Numbers are consecutive within the graph; `%7.1` is the second output of `%7`; what follows `;` is the scope.
 */
export function printGraph(graph: Graph): string {
  const order = topologicalOrder([...graph.inputs, ...graph.outputs]);
  const numbers = new Map<Node, number>(order.map((node, i) => [node, i]));
  const name = (tensor: Tensor): string =>
    `%${numbers.get(tensor.node)}${tensor.node.outputs.length > 1 ? `.${tensor.index}` : ""}`;
  const inputIndex = new Map<Node, number>(graph.inputs.map((tensor, i) => [tensor.node, i]));
  const lines = order.map((node, i) => {
    const index = inputIndex.get(node);
    if (index !== undefined) {
      const donated = graph.donated.has(index) ? " (donated)" : "";
      return `%${i} = input ${graph.inputNames[index] ?? index} : ${formatTypes(node.outputs)}${donated}`;
    }
    const operands = [...node.inputs.map(name), ...formatAttrs(node.attrs)].join(", ");
    const scope = node.scope === "" ? "" : `   ; ${node.scope}`;
    return `%${i} = ${node.op.name}(${operands}) : ${formatTypes(node.outputs)}${scope}`;
  });
  return [...lines, `return ${graph.outputs.map(name).join(", ")}`].join("\n");
}

function formatTypes(types: readonly TensorType[]): string {
  return types.map((type) => `${type.dtype}${formatShape(type.shape)}`).join(", ");
}

function formatAttrs(attrs: Attrs): string[] {
  return Object.entries(attrs)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}: ${formatAttr(value)}`);
}

const longestList = 8;

function formatAttr(value: AttrValue): string {
  if (value instanceof NdArray) {
    const items = Array.from(value.data.subarray(0, longestList)).join(",");
    return `${value.dtype}${formatShape(value.shape)}(${items}${value.size > longestList ? ",..." : ""})`;
  }
  if (typeof value === "function") return "function";
  if (Array.isArray(value)) {
    const items = value as readonly unknown[];
    const shown = items.slice(0, longestList).map((item) => formatAttr(item as AttrValue));
    return `[${shown.join(",")}${items.length > longestList ? `,... ${items.length}` : ""}]`;
  }
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value)
      .map(([key, item]) => `${key}: ${formatAttr(item as AttrValue)}`)
      .join(", ")}}`;
  }
  return String(value);
}
