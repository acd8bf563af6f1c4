import { type Attrs, type Node, type OpDef, Tensor, type TensorType } from "./node.ts";

export { type Attrs, type AttrValue, type Node, Tensor, type TensorType } from "./node.ts";

let nextNodeId = 0;
let currentScope = "";

/** Runs `build` with `name` appended to the scope that new nodes carry (`h.0`, then `attn` gives `h.0.attn`). */
export function withScope<T>(name: string, build: () => T): T {
  const outer = currentScope;
  currentScope = outer === "" ? name : `${outer}.${name}`;
  try {
    return build();
  } finally {
    currentScope = outer;
  }
}

/** Runs `build` with exactly this scope, as passes do for what replaces a node. */
export function inScope<T>(scope: string, build: () => T): T {
  const outer = currentScope;
  currentScope = scope;
  try {
    return build();
  } finally {
    currentScope = outer;
  }
}

/**
 * The same application on other inputs of the same types: a new node, later than all others. For graph rewriting. Other
 * output types may be given by passes that know what the node lowers to.
 */
export function reapply(node: Node, inputs: readonly Tensor[], outputs = node.outputs): Tensor[] {
  const copy: Node = { ...node, id: nextNodeId++, inputs, outputs };
  return copy.outputs.map((_, i) => new Tensor(copy, i));
}

/**
 * Applies an op: infers the output types, records a node and returns its outputs.
 * Throws what the op's `infer` throws, with the scope appended.
 */
export function apply(op: OpDef, inputs: readonly Tensor[], attrs: Attrs = {}): Tensor[] {
  let outputs: readonly TensorType[];
  try {
    outputs = op.infer(
      inputs.map((t) => t.type),
      attrs,
    );
  } catch (error) {
    if (currentScope !== "" && error instanceof Error && !error.message.includes("(in ")) {
      error.message += ` (in ${currentScope})`;
    }
    throw error;
  }
  const node: Node = { id: nextNodeId++, op, inputs, attrs, outputs, scope: currentScope };
  return outputs.map((_, i) => new Tensor(node, i));
}

/** {@link apply} for ops with exactly one output. */
export function apply1(op: OpDef, inputs: readonly Tensor[], attrs: Attrs = {}): Tensor {
  return apply(op, inputs, attrs)[0] as Tensor;
}
