import { PlinthError } from "../../base/index.ts";
import { decodeFloat64, encodeHost } from "../ir/convert.ts";
import { dtypeBytes } from "../ir/dtype.ts";
import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { NdArray } from "../ir/nd-array.ts";
import type { Oracle } from "../ir/op.ts";
import { formatShape, sameShape, sizeOf } from "../ir/shape.ts";
import type { Node, Tensor, TensorType } from "../ir/tensor.ts";
import type { Backend, Executable, ExecutableStats } from "./backend.ts";
import { evaluateNode, valuesOf } from "./evaluate.ts";

/** Longest stretch of work between two turns of the event loop; one large op may take longer. */
const yieldEveryMs = 8;

/**
 * The oracle as a backend: interprets a graph in float64 with each op's definition and rounds only the graph's outputs
 * to their element types. Slow and exact; it runs where nothing else does and tells what the others should give.
 */
export const referenceBackend: Backend = {
  name: "reference",
  compile: (graph) => new ReferenceExecutable(graph),
};

class ReferenceExecutable implements Executable {
  readonly stats: ExecutableStats;
  readonly #graph: Graph;
  readonly #order: readonly Node[];
  /** After which node each node's values are needed no more. */
  readonly #lastUse: ReadonlyMap<Node, readonly Node[]>;

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#order = topologicalOrder(graph.outputs);
    this.#lastUse = lastUses(this.#order, graph);
    const given = new Set(graph.inputs.map((t) => t.node));
    const stray = this.#order.find((node) => node.op.name === "input" && !given.has(node));
    if (stray !== undefined) {
      throw new PlinthError(
        `reference: the graph uses an input ${formatShape((stray.outputs[0] as TensorType).shape)} that is not among its arguments`,
        "pass it as an argument of the traced function instead of closing over it",
      );
    }
    this.stats = statsOf(graph, this.#order);
  }

  async run(inputs: readonly NdArray[]): Promise<NdArray[]> {
    const graph = this.#graph;
    if (inputs.length !== graph.inputs.length) {
      throw new PlinthError(
        `run: expected ${graph.inputs.length} inputs, got ${inputs.length}`,
        "pass one per argument",
      );
    }
    const values = new Map<Node, readonly Oracle[]>();
    graph.inputs.forEach((t, i) => {
      values.set(t.node, [decodeInput(t, inputs[i] as NdArray, graph.inputNames[i] ?? `${i}`)]);
    });
    for (const i of graph.donated) (inputs[i] as NdArray).donate();
    let rested = performance.now();
    for (const node of this.#order) {
      if (!values.has(node)) values.set(node, evaluateNode(node, valuesOf(node, values)));
      for (const dead of this.#lastUse.get(node) ?? []) values.delete(dead);
      if (performance.now() - rested > yieldEveryMs) {
        await new Promise((resolve) => setImmediate(resolve));
        rested = performance.now();
      }
    }
    return graph.outputs.map((t) => {
      const value = values.get(t.node)?.[t.index] as Oracle;
      return new NdArray(t.dtype, t.shape, encodeHost(t.dtype, value.data));
    });
  }
}

function decodeInput(t: Tensor, array: NdArray, name: string): Oracle {
  if (array.dtype !== t.dtype || !sameShape(array.shape, t.shape)) {
    throw new PlinthError(
      `run: expected ${t.dtype}${formatShape(t.shape)} for input ${name}, got ${array.dtype}${formatShape(array.shape)}`,
      "trace again for other shapes (jit does), or convert the array",
    );
  }
  return { shape: t.shape, dtype: t.dtype, data: decodeFloat64(t.dtype, array.data) };
}

function lastUses(order: readonly Node[], graph: Graph): Map<Node, Node[]> {
  const kept = new Set([...graph.outputs, ...graph.inputs].map((t) => t.node));
  const seen = new Set<Node>(kept);
  const last = new Map<Node, Node[]>();
  for (let i = order.length - 1; i >= 0; i--) {
    const node = order[i] as Node;
    const dying: Node[] = [];
    for (const { node: used } of node.inputs) {
      if (seen.has(used)) continue;
      seen.add(used);
      dying.push(used);
    }
    if (dying.length > 0) last.set(node, dying);
  }
  return last;
}

function statsOf(graph: Graph, order: readonly Node[]): ExecutableStats {
  const bytes = (types: readonly TensorType[]) =>
    types.reduce((sum, t) => sum + sizeOf(t.shape) * dtypeBytes[t.dtype], 0);
  const work = order.filter((node) => node.op.lower.kind !== "source");
  const arenaBytes = work.reduce((sum, node) => sum + bytes(node.outputs), 0);
  let flops = 0;
  for (const node of order) {
    const [a, b] = node.inputs;
    if (node.op.name === "matmul") flops += 2 * sizeOf((a as Tensor).shape) * ((b as Tensor).shape.at(-1) as number);
    if (node.op.name === "attention") flops += 4 * sizeOf((a as Tensor).shape) * ((b as Tensor).shape[1] as number);
    if (node.op.name === "attentionGrad")
      flops += 10 * sizeOf((a as Tensor).shape) * ((b as Tensor).shape[1] as number);
  }
  return {
    instructions: work.length,
    arenaBytes,
    peakBytes: arenaBytes + bytes(graph.inputs) + bytes(graph.outputs),
    flops,
  };
}
