import type { DType } from "./dtype.ts";
import { formatShape, type Shape } from "./shape.ts";

// Nodes name their op and an op's rules take tensors, so these types live in one file.

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

/** A value of the float64 oracle: row-major, any dtype held as doubles (bool as 0/1). */
export interface Oracle {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: Float64Array;
}

/**
 * Vector-Jacobian product: cotangents of the outputs (undefined = zero) to cotangents of the inputs
 * (undefined = zero, e.g. for integer inputs). Builds graph; evaluates nothing.
 */
export type VjpRule = (context: {
  readonly node: Node;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly cotangents: readonly (Tensor | undefined)[];
  /** Which inputs somebody asked the gradient of; work for the others is wasted. */
  readonly needed: readonly boolean[];
}) => readonly (Tensor | undefined)[];

/** Declared by ops that cannot be differentiated, with the reason that `grad` reports. */
export interface NoGradient {
  readonly noGradient: string;
}

/** How the native compiler turns a node into work. */
export type Lowering =
  /** Pure per-element function; joins a fused kernel. `opcode` is looked up in `ops/opcodes.ts`. */
  | { readonly kind: "elementwise"; readonly opcode: (attrs: Attrs, inputs: readonly TensorType[]) => string }
  /** Re-reads its input's memory through other strides; emits no work unless the layout cannot express it. */
  | { readonly kind: "view"; readonly layout: ViewRule }
  /** Runs a native kernel (`native/KERNELS.md`). */
  | {
      readonly kind: "kernel";
      readonly kernel: string;
      readonly ints?: (node: Node) => readonly number[];
      readonly floats?: (node: Node) => readonly number[];
      /** Indices of inputs the kernel reads through arbitrary strides; the others are made row-major first. */
      readonly strided?: readonly number[] | "all";
      /** Those of the strided inputs whose last axis must be contiguous (stride 1); they are copied otherwise. */
      readonly unitStride?: readonly number[];
      /** Inputs of float32 that the kernel also reads as bfloat16 or float16: a cast to float32 before it costs nothing. */
      readonly narrowInputs?: readonly number[];
      /** Outputs of float32 that the kernel also gives as bfloat16 or float16, rounded: a cast behind it costs nothing. */
      readonly narrowOutputs?: readonly number[];
      /** Pairs [output, input] that may share memory when the input dies here or is donated. */
      readonly inPlace?: readonly (readonly [number, number])[];
      /** Scratch bytes shared by all threads. */
      readonly workspaceBytes?: (node: Node) => number;
    }
  /** Replaced by its decomposition before any pass. */
  | { readonly kind: "decompose" }
  /** Graph inputs and constants: no work. */
  | { readonly kind: "source" };

/** A strided window on a buffer, in elements. */
export interface Layout {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** Layout of each output given the input's, or undefined where a copy is needed (reshape of a non-contiguous view). */
export type ViewRule = (
  node: Node,
  input: { readonly shape: Shape; readonly layout: Layout },
) => readonly Layout[] | undefined;

/** One input set for the contract suite. Data is generated from the seed of the suite. */
export interface OpSample {
  readonly name: string;
  readonly inputs: readonly SampleInput[];
  readonly attrs?: Attrs;
  /** Largest accepted |native - oracle| / max(1, |oracle|); default 1e-5. */
  readonly tolerance?: number;
  /** Skip finite differences (with the reason), e.g. at a kink. */
  readonly noGradientCheck?: string;
}
export interface SampleInput extends TensorType {
  /** Range of generated values; default normal(0, 1) for floats, 0..9 for integers. */
  readonly low?: number;
  readonly high?: number;
  /** Fixed values instead of generated ones. */
  readonly values?: readonly number[];
}

/** Everything the system knows of one op. Made by `defineOp`. */
export interface OpDef {
  readonly name: string;
  /** Output types. Throws `op: expected X, got Y. Fix: Z.` */
  readonly infer: (inputs: readonly TensorType[], attrs: Attrs) => readonly TensorType[];
  /** Float64 definition. A composite op leaves it out: its decomposition is its definition. */
  readonly evaluate?: (inputs: readonly Oracle[], attrs: Attrs, outputs: readonly TensorType[]) => readonly Oracle[];
  /** Same outputs from simpler ops. Required where `evaluate` is missing. */
  readonly decompose?: (inputs: readonly Tensor[], attrs: Attrs) => readonly Tensor[];
  readonly gradient: VjpRule | NoGradient;
  /**
   * Inputs that the op rounds to bfloat16 itself where its attribute `operands` is "bfloat16": products. The precision
   * policy sets the attribute and stores what only such inputs read in bfloat16.
   */
  readonly operands?: readonly number[];
  readonly lower: Lowering;
  /** What the contract suite runs. None for sources. */
  readonly samples: readonly OpSample[];
}
