import { isNarrow } from "../ir/dtype.ts";
import type { Graph } from "../ir/graph.ts";
import { type Node, reapply, type Tensor, type TensorType } from "../ir/tensor.ts";
import { rewriteGraph } from "./rewrite.ts";
import { Uses } from "./uses.ts";

/**
 * Lets kernels do what they do at no cost, for the native backend: read narrow inputs and give narrow outputs instead
 * of leaving casts to others (`narrowInputs`, `narrowOutputs` of the lowering), and give a product in the shape in which
 * all its readers want it, since its memory is the same. The nodes made here know more than their op's `infer`: the
 * result is for lowering only.
 */
export function absorbIntoKernels(graph: Graph): Graph {
  const once = absorbNeighbours(graph);
  return once === graph ? graph : absorbIntoKernels(once);
}

function absorbNeighbours(graph: Graph): Graph {
  const outlets = findOutlets(graph);
  return rewriteGraph(graph, (node, inputs) => {
    const { lower } = node.op;
    const source = inputs[0] as Tensor;
    const only = node.inputs[0] === undefined ? undefined : outlets.get(node.inputs[0].node)?.get(node.inputs[0].index);
    if (only?.node === node) return [source];
    if (lower.kind !== "kernel") return undefined;
    const own = outlets.get(node);
    const narrow = inputs.map((tensor, i) => (lower.narrowInputs?.includes(i) === true ? unwidened(tensor) : tensor));
    if (own === undefined && narrow.every((tensor, i) => tensor === inputs[i])) return undefined;
    return reapply(
      node,
      narrow,
      node.outputs.map((type, i) => own?.get(i)?.type ?? type),
    );
  });
}

/** The narrow tensor behind a cast to float32. */
function unwidened(tensor: Tensor): Tensor {
  const { node } = tensor;
  const from = node.inputs[0];
  return node.op.name === "cast" && tensor.dtype === "float32" && from !== undefined && isNarrow(from.dtype)
    ? from
    : tensor;
}

/** By kernel and output: the node that alone reads it, and the type that it makes of it without changing any element's place. */
function findOutlets(graph: Graph): Map<Node, Map<number, { node: Node; type: TensorType }>> {
  const uses = new Uses(graph);
  const outlets = new Map<Node, Map<number, { node: Node; type: TensorType }>>();
  for (const node of uses.order) {
    const { lower } = node.op;
    if (lower.kind !== "kernel") continue;
    for (const index of node.outputs.keys()) {
      const users = new Set(uses.of({ node, index }).map((use) => use.node));
      const [user] = users;
      const type = user?.outputs[0];
      if (users.size !== 1 || uses.isOutput({ node, index }) || user === undefined || type === undefined) continue;
      const narrows = user.op.name === "cast" && isNarrow(type.dtype) && lower.narrowOutputs?.includes(index) === true;
      const reshapes = user.op.name === "reshape" && node.op.name === "matmul";
      if (!narrows && !reshapes) continue;
      outlets.set(node, (outlets.get(node) ?? new Map()).set(index, { node: user, type }));
    }
  }
  return outlets;
}
