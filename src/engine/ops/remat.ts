import { vjp } from "../autodiff/vjp.ts";
import { defineOp, type OpDef, type Oracle } from "../ir/op.ts";
import { apply, apply1, inScope, type Node, reapply, type Tensor, type TensorType } from "../ir/tensor.ts";
import { scalar } from "./source.ts";
import { at, oracle } from "./support.ts";

const shapes = { normal: [4, 8], empty: [0], "size-1": [1], odd: [7, 13] };

/**
 * Its input, as something of its own: what is computed from it is not merged with what is computed from the input. A
 * view that vanishes before kernels are chosen. attrs: {id: equal barriers of one input are one}.
 */
export const barrierOp: OpDef = defineOp({
  name: "barrier",
  infer: (inputs) => [at(inputs, 0, "barrier")],
  evaluate: ([x], _, [type]) => [oracle(type as TensorType, (x as Oracle).data)],
  gradient: ({ cotangents }) => cotangents,
  lower: { kind: "view", layout: (_, { layout }) => [layout] },
  samples: Object.entries(shapes).map(([name, shape]) => ({
    name,
    inputs: [{ shape, dtype: "float32" as const }],
    attrs: { id: 0 },
  })),
});

/**
 * The outputs of a part of the program whose inside is computed again for the gradient. Inputs: what the part reads from
 * outside, then its outputs, which pass through. attrs: {count: of the former}.
 */
export const rematOp: OpDef = defineOp({
  name: "remat",
  infer: (inputs, attrs) => inputs.slice(attrs["count"] as number),
  evaluate: (inputs, attrs, types) =>
    inputs.slice(attrs["count"] as number).map((y, i) => oracle(types[i] as TensorType, y.data)),
  decompose: (inputs, attrs) => inputs.slice(attrs["count"] as number),
  gradient: ({ node, inputs, cotangents, needed }) => {
    const count = node.attrs["count"] as number;
    const outside = inputs.slice(0, count);
    const outputs = inputs.slice(count);
    const again = outside.map((t) => (t.node.op.name === "constant" ? t : apply1(barrierOp, [t], { id: node.id })));
    const copies = copyBetween(outside, again, outputs);
    const wanted = again.filter((_, i) => needed[i]);
    const found = vjp(copies, cotangents, wanted);
    let next = 0;
    return inputs.map((_, i) => (i < count && needed[i] ? found[next++] : undefined));
  },
  lower: { kind: "decompose" },
  samples: Object.entries(shapes).map(([name, shape]) => ({
    name,
    inputs: [{ shape, dtype: "float32" as const }],
    attrs: { count: 0 },
    noGradientCheck: "without a part of a program around it there is nothing to compute again",
  })),
});

/** The nodes between `from` and `outputs` once more, on other inputs of the same types. */
function copyBetween(from: readonly Tensor[], to: readonly Tensor[], outputs: readonly Tensor[]): Tensor[] {
  const copies = new Map<Node, (Tensor | undefined)[]>();
  from.forEach((t, i) => {
    const known = copies.get(t.node) ?? [];
    known[t.index] = to[i];
    copies.set(t.node, known);
  });
  const find = (t: Tensor): Tensor => copies.get(t.node)?.[t.index] ?? t;
  for (const node of nodesInside(outputs, new Set(copies.keys()))) {
    const copy = inScope(node.scope, () => reapply(node, node.inputs.map(find)));
    copies.set(node, copy);
  }
  return outputs.map(find);
}

/** Nodes that `outputs` are made of, short of the nodes `border`, in order of creation. */
function nodesInside(outputs: readonly Tensor[], border: ReadonlySet<Node>): Node[] {
  const seen = new Set<Node>();
  const stack = outputs.map((t) => t.node);
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node) || border.has(node)) continue;
    seen.add(node);
    stack.push(...node.inputs.map((t) => t.node));
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

/**
 * Activation checkpointing (Chen et al. 2016): the function with a gradient that keeps nothing from inside it. The
 * backward pass computes the inside again from what the function reads, its arguments and tensors that it closes over
 * alike. Values and gradients have the same bits as without; random numbers come from keys, so they repeat.
 */
export function remat<A extends readonly Tensor[], R extends Tensor | readonly Tensor[]>(
  fn: (...inputs: A) => R,
): (...inputs: A) => R {
  return (...inputs) => {
    // Everything made from here on is inside.
    const first = scalar(0).node.id;
    const result: Tensor | readonly Tensor[] = fn(...inputs);
    const outputs = "node" in result ? [result] : result;
    const outside = new Map<string, Tensor>();
    const note = (t: Tensor): void => {
      if (t.node.id < first) outside.set(`${t.node.id}.${t.index}`, t);
    };
    outputs.forEach(note);
    const inside = new Set<Node>();
    const stack = outputs.map((t) => t.node);
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      if (inside.has(node) || node.id < first) continue;
      inside.add(node);
      node.inputs.forEach(note);
      stack.push(...node.inputs.map((t) => t.node));
    }
    const reads = [...outside.values()].sort((a, b) => a.node.id - b.node.id || a.index - b.index);
    const passed = apply(rematOp, [...reads, ...outputs], { count: reads.length });
    return ("node" in result ? passed[0] : passed) as R;
  };
}
