import { type Graph, topologicalOrder } from "./graph.ts";
import { formatShape, sameShape } from "./shape.ts";
import type { AttrValue, Node, Tensor, TensorType } from "./tensor.ts";

const largestRank = 8;

/**
 * Checks that a graph is well formed: no cycle, inputs made before users, every type what its op infers from its inputs,
 * sizes and attributes sane, every `input` node among the graph's inputs. Run after tracing and after each pass in
 * tests. Throws naming the node: a failure is a defect of an op or a pass, not of the user's program.
 */
export function verifyGraph(graph: Graph): void {
  checkAcyclic(graph.outputs);
  const declared = new Set(graph.inputs.map((tensor) => tensor.node));
  if (declared.size !== graph.inputs.length) throw new Error("verify: the same input appears twice among the inputs.");
  if (graph.inputNames.length !== graph.inputs.length) {
    throw new Error(`verify: ${graph.inputs.length} inputs but ${graph.inputNames.length} names.`);
  }
  for (const index of graph.donated) {
    if (graph.inputs[index] === undefined) throw new Error(`verify: donated input ${index} does not exist.`);
  }
  for (const node of topologicalOrder(graph.outputs)) {
    for (const tensor of node.inputs) {
      if (tensor.node.id >= node.id) fail(node, `uses %${tensor.node.id}, which was made after it`);
      if (tensor.node.outputs[tensor.index] === undefined) {
        fail(node, `uses output ${tensor.index} of ${tensor.node.op.name}, which has ${tensor.node.outputs.length}`);
      }
    }
    for (const [key, value] of Object.entries(node.attrs)) checkAttr(node, key, value);
    for (const type of node.outputs) checkType(node, type);
    if (node.op.name === "input" && !declared.has(node)) fail(node, "is not among the graph's inputs");
    checkInference(node);
  }
}

function fail(node: Node, problem: string): never {
  throw new Error(`verify: %${node.id} ${node.op.name}${node.scope === "" ? "" : ` (in ${node.scope})`} ${problem}.`);
}

function checkAcyclic(outputs: readonly Tensor[]): void {
  // A node is open while its inputs are being visited; meeting an open node again closes a cycle.
  const state = new Map<Node, "open" | "done">();
  const stack: { readonly node: Node; next: number }[] = [];
  const push = (node: Node): void => {
    if (state.get(node) === "open") fail(node, "is part of a cycle");
    if (state.has(node)) return;
    state.set(node, "open");
    stack.push({ node, next: 0 });
  };
  for (const output of outputs) {
    push(output.node);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const input = top.node.inputs[top.next++];
      if (input !== undefined) push(input.node);
      else {
        state.set(top.node, "done");
        stack.pop();
      }
    }
  }
}

function checkType(node: Node, type: TensorType): void {
  if (type.shape.length > largestRank) fail(node, `has rank ${type.shape.length}, expected at most ${largestRank}`);
  if (!type.shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    fail(node, `has shape ${formatShape(type.shape)}, expected sizes that are whole and not negative`);
  }
}

function checkInference(node: Node): void {
  const inferred = node.op.infer(
    node.inputs.map((tensor) => tensor.type),
    node.attrs,
  );
  const text = (types: readonly TensorType[]): string =>
    types.map((type) => `${type.dtype}${formatShape(type.shape)}`).join(", ");
  const same =
    inferred.length === node.outputs.length &&
    inferred.every((type, i) => {
      const recorded = node.outputs[i] as TensorType;
      return type.dtype === recorded.dtype && sameShape(type.shape, recorded.shape);
    });
  if (!same) fail(node, `records ${text(node.outputs)} but its op infers ${text(inferred)}`);
}

function checkAttr(node: Node, key: string, value: AttrValue): void {
  if (typeof value === "function" || typeof value === "symbol") fail(node, `has a ${typeof value} as attribute ${key}`);
  if (typeof value === "number" && Number.isNaN(value) && node.op.name !== "constant") {
    fail(node, `has NaN as attribute ${key}`);
  }
}
