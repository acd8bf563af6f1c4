import { decodeFloat64, encodeHost } from "../ir/convert.ts";
import type { Graph } from "../ir/graph.ts";
import { NdArray } from "../ir/nd-array.ts";
import { sizeOf } from "../ir/shape.ts";
import type { Node, Tensor } from "../ir/tensor.ts";
import { constant } from "../ops/source.ts";
import { rewriteGraph } from "./rewrite.ts";

/** Larger results stay computations: they would only swell the program. */
const maxElements = 1024;

/** Computes in float64, while compiling, what depends on constants alone. Repetitions of one number stay views. */
export function foldConstants(graph: Graph): Graph {
  return rewriteGraph(graph, (node, inputs) => (isFoldable(node, inputs) ? evaluate(node, inputs) : undefined));
}

function isFoldable(node: Node, inputs: readonly Tensor[]): boolean {
  if (inputs.length === 0 || node.op.evaluate === undefined) return false;
  if (!inputs.every((tensor) => tensor.node.op.name === "constant")) return false;
  const size = node.outputs.reduce((sum, type) => sum + sizeOf(type.shape), 0);
  const inputSize = inputs.reduce((sum, tensor) => sum + sizeOf(tensor.shape), 0);
  return size <= maxElements && inputSize <= maxElements && !(node.op.name === "broadcastTo" && size > inputSize);
}

function evaluate(node: Node, inputs: readonly Tensor[]): Tensor[] {
  const values = inputs.map((tensor) => {
    const { shape, dtype, data } = tensor.node.attrs["value"] as NdArray;
    return { shape, dtype, data: decodeFloat64(dtype, data) };
  });
  const results = node.op.evaluate?.(values, node.attrs, node.outputs) ?? [];
  return results.map((result) =>
    constant(new NdArray(result.dtype, result.shape, encodeHost(result.dtype, result.data))),
  );
}
