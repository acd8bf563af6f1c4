import { isNarrow } from "../ir/dtype.ts";
import type { Graph } from "../ir/graph.ts";
import type { NdArray } from "../ir/nd-array.ts";
import { type Shape, sameShape, sizeOf } from "../ir/shape.ts";
import { apply1, type Node, type Tensor, type TensorType } from "../ir/tensor.ts";
import { reshape } from "../ops/reshape.ts";
import { broadcastTo } from "../ops/sum.ts";
import { transpose } from "../ops/transpose.ts";
import { rewriteGraph } from "./rewrite.ts";
import { Uses } from "./uses.ts";

/**
 * A tensor equal to the node's only output, or undefined where the rule does not apply. `alone` tells whether nothing
 * else uses what the node reads.
 */
type Rule = (node: Node, inputs: readonly Tensor[], type: TensorType, alone: boolean) => Tensor | undefined;

/**
 * Removes work that algebra shows to be idle. Every rule gives the same numbers as the original (up to the sign of a
 * zero), so results do not depend on what was simplified.
 */
export function simplifyAlgebra(graph: Graph): Graph {
  const uses = new Uses(graph);
  return rewriteGraph(graph, (node, inputs) => {
    const type = node.outputs[0];
    if (type === undefined || node.outputs.length !== 1) return undefined;
    const alone = node.inputs.every((tensor) => uses.count(tensor.node) === 1);
    const result = rules[node.op.name]?.(node, inputs, type, alone) ?? hoistBroadcasts(node, inputs, type);
    return result === undefined ? undefined : [result];
  });
}

/** The input itself, where it already has the output's type. */
function same(x: Tensor | undefined, type: TensorType): Tensor | undefined {
  return x !== undefined && x.dtype === type.dtype && sameShape(x.shape, type.shape) ? x : undefined;
}

/** The number that every element of the tensor equals, if it is a constant of one element, possibly repeated. */
function uniformValue(x: Tensor | undefined): number | undefined {
  if (x === undefined) return undefined;
  const { node } = x;
  if (node.op.name === "broadcastTo") return uniformValue(node.inputs[0]);
  if (node.op.name !== "constant" || sizeOf(x.shape) !== 1) return undefined;
  const value = node.attrs["value"] as NdArray;
  return value.dtype === "float32" || value.dtype === "int32" ? (value.data[0] as number) : undefined;
}

/** Reduction over axes that hold one element each (or over none) moves nothing. */
const reduceNothing: Rule = (node, [x], type) => {
  const axes = node.attrs["axes"] as readonly number[];
  return x !== undefined && axes.every((axis) => x.shape[axis] === 1) ? reshape(x, type.shape) : undefined;
};

const rules: Readonly<Record<string, Rule>> = {
  add: (_, [a, b], type) => {
    if (uniformValue(b) === 0) return same(a, type);
    return uniformValue(a) === 0 ? same(b, type) : undefined;
  },
  sub: (_, [a, b], type) => (uniformValue(b) === 0 ? same(a, type) : undefined),
  mul: (_, [a, b], type) => {
    if (uniformValue(b) === 1) return same(a, type);
    return uniformValue(a) === 1 ? same(b, type) : undefined;
  },
  div: (_, [a, b], type) => (uniformValue(b) === 1 ? same(a, type) : undefined),
  neg: (_, [x]) => (x?.node.op.name === "neg" ? x.node.inputs[0] : undefined),
  cast: (_, [x], type) => {
    // A narrow float survives being widened.
    const from = x?.node.op.name === "cast" && x.dtype === "float32" ? x.node.inputs[0] : undefined;
    return same(x, type) ?? (from !== undefined && isNarrow(from.dtype) ? same(from, type) : undefined);
  },
  stopGradient: (_, [x]) => x,
  sum: reduceNothing,
  max: reduceNothing,
  reshape: (_, [x], type) => {
    if (x === undefined || same(x, type) !== undefined) return x;
    const inner = x.node.inputs[0];
    if (x.node.op.name === "reshape" && inner !== undefined) return reshape(inner, type.shape);
    // One element repeated has no order to keep.
    if (x.node.op.name === "broadcastTo" && inner !== undefined && sizeOf(inner.shape) === 1) {
      return broadcastTo(reshape(inner, []), type.shape);
    }
    return undefined;
  },
  transpose: (node, [x], type, alone) => {
    const permutation = node.attrs["permutation"] as readonly number[];
    if (x === undefined) return undefined;
    if (movesNothing(permutation, type.shape)) return reshape(x, type.shape);
    if (x.node.op.name === "matmul" && alone && swapsLastAxes(permutation)) {
      // (AB)' = B'A', and the product reads its operands through any strides.
      const [a, b] = x.node.inputs as [Tensor, Tensor];
      return apply1(x.node.op, [transpose(b, permutation), transpose(a, permutation)], x.node.attrs);
    }
    if (x.node.op.name !== "transpose") return undefined;
    const first = x.node.attrs["permutation"] as readonly number[];
    return transpose(
      x.node.inputs[0] as Tensor,
      permutation.map((axis) => first[axis] as number),
    );
  },
  broadcastTo: (_, [x], type) => {
    if (x === undefined || same(x, type) !== undefined) return x;
    return x.node.op.name === "broadcastTo" ? broadcastTo(x.node.inputs[0] as Tensor, type.shape) : undefined;
  },
  slice: (_, [x], type) => same(x, type),
  pad: (_, [x], type) => same(x, type),
  concat: (node, inputs, type) => {
    if (inputs.length === 1) return inputs[0];
    const source = inputs[0]?.node;
    if (source?.op.name !== "split" || source.attrs["axis"] !== node.attrs["axis"]) return undefined;
    const whole = inputs.length === source.outputs.length && inputs.every((x, i) => x.node === source && x.index === i);
    return whole ? same(source.inputs[0], type) : undefined;
  },
};

function swapsLastAxes(permutation: readonly number[]): boolean {
  const rank = permutation.length;
  return permutation.every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i));
}

/** True where a permutation only moves axes of size 1. `shape` is the permuted shape. */
function movesNothing(permutation: readonly number[], shape: Shape): boolean {
  const moved = permutation.filter((_, i) => shape[i] !== 1);
  return moved.every((axis, i) => i === 0 || axis > (moved[i - 1] as number));
}

/**
 * Elementwise work happens before repetition: f(broadcast(x)) = broadcast(f(x)). Where another operand brings the full
 * shape, the broadcast is dropped altogether, since elementwise ops repeat by themselves.
 */
function hoistBroadcasts(node: Node, inputs: readonly Tensor[], type: TensorType): Tensor | undefined {
  if (node.op.lower.kind !== "elementwise" || !inputs.some((x) => x.node.op.name === "broadcastTo")) return undefined;
  const bare = inputs.map((x) => (x.node.op.name === "broadcastTo" ? (x.node.inputs[0] as Tensor) : x));
  return broadcastTo(apply1(node.op, bare, node.attrs), type.shape);
}
