import type { DType } from "./dtype.ts";
import type { OpDef } from "./op.ts";
import { formatShape, type Shape } from "./shape.ts";

/** What is known of a tensor before it has a value. */
export interface TensorType {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** Static arguments of an op. Values are compared structurally by common-subexpression elimination. */
export type AttrValue = number | string | boolean | readonly number[] | readonly string[] | undefined | object;
export type Attrs = { readonly [name: string]: AttrValue };

/** One application of an op. Nodes form a directed acyclic graph through their inputs and are never mutated. */
export interface Node {
  /** Increasing with creation: inputs always have smaller ids than their users. */
  readonly id: number;
  readonly op: OpDef;
  readonly inputs: readonly Tensor[];
  readonly attrs: Attrs;
  readonly outputs: readonly TensorType[];
  /** Where the user's program made it, e.g. `transformer.h.0.attn`; shown by the printer and in errors. */
  readonly scope: string;
}

/**
 * A symbolic tensor: one output of a node. It has a shape and an element type but no value; values exist only when
 * a compiled Program runs. Immutable.
 */
export class Tensor implements TensorType {
  readonly node: Node;
  readonly index: number;

  constructor(node: Node, index: number) {
    this.node = node;
    this.index = index;
  }

  get type(): TensorType {
    const type = this.node.outputs[this.index];
    if (type === undefined) throw new Error(`${this.node.op.name}: no output ${this.index}`);
    return type;
  }

  get shape(): Shape {
    return this.type.shape;
  }

  get dtype(): DType {
    return this.type.dtype;
  }

  get rank(): number {
    return this.type.shape.length;
  }

  toString(): string {
    return `%${this.node.id}${this.node.outputs.length > 1 ? `.${this.index}` : ""}:${this.dtype}${formatShape(this.shape)}`;
  }
}

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

/** The same application on other inputs of the same types: a new node, later than all others. For graph rewriting. */
export function reapply(node: Node, inputs: readonly Tensor[]): Tensor[] {
  const copy: Node = { ...node, id: nextNodeId++, inputs };
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
