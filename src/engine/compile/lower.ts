import { type DType, dtypeBytes, type HostArray } from "../ir/dtype.ts";
import { type Graph, topologicalOrder } from "../ir/graph.ts";
import type { NdArray } from "../ir/nd-array.ts";
import type { Lowering, ViewRule } from "../ir/op.ts";
import { rowMajorStrides, type Shape, sizeOf } from "../ir/shape.ts";
import type { Node, Tensor, TensorType } from "../ir/tensor.ts";
import type { Unit } from "./clusters.ts";
import { withoutDuplicateStores } from "./duplicate-stores.ts";
import { fuse } from "./fuse.ts";
import { fusedStep } from "./fused-kernel.ts";
import { type Buffer, isRowMajor, type Lowered, productShape, rowMajorView, type Step, type View } from "./lowered.ts";

/**
 * Turns a graph without composite ops into kernel calls. Views (slices, transposes, broadcasts, most reshapes) become
 * offsets and strides of what reads them; a kernel that needs row-major input gets a `copy` first, made once.
 */
export function lower(graph: Graph): Lowered {
  const lowering = new GraphLowering(graph);
  for (const unit of fuse(topologicalOrder([...graph.inputs, ...graph.outputs]), graph.outputs)) lowering.add(unit);
  return lowering.finish();
}

type KernelLowering = Extract<Lowering, { kind: "kernel" }>;

class GraphLowering {
  readonly #graph: Graph;
  readonly #steps: Step[] = [];
  readonly #inputs: Buffer[];
  readonly #constants: HostArray[] = [];
  readonly #constantBuffers = new Map<HostArray, Buffer>();
  readonly #views = new Map<Node, View[]>();
  /** Row-major copies of views, by the view that was copied. */
  readonly #copies = new Map<View, View>();

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#inputs = graph.inputs.map((tensor, index) => ({ bytes: byteSize(tensor), source: { kind: "input", index } }));
    graph.inputs.forEach((tensor, i) => {
      this.#views.set(tensor.node, [wholeView(this.#inputs[i] as Buffer, tensor)]);
    });
  }

  add(unit: Unit): void {
    if (unit.kind === "fused") {
      const { unit: once, same } = withoutDuplicateStores(unit);
      const step = fusedStep(
        once,
        (tensor) => this.#view(tensor),
        (view) => this.#rowMajor(view, once.head as Node),
      );
      this.#steps.push(step);
      once.stores.forEach((node, i) => {
        this.#views.set(node, [rowMajorView(step.outputs[i] as View, node.outputs[0]?.shape)]);
      });
      for (const [node, stored] of same) this.#views.set(node, this.#views.get(stored) as View[]);
      return;
    }
    const { node } = unit;
    const { lower } = node.op;
    if (lower.kind === "source") this.#addSource(node);
    else if (lower.kind === "view") this.#views.set(node, this.#viewsOf(node, lower.layout));
    else if (lower.kind === "kernel") this.#addKernel(node, lower);
    else throw new Error(`${node.op.name}: ${lower.kind} cannot be lowered on its own.`);
  }

  finish(): Lowered {
    const outputs = this.#graph.outputs.map((tensor) => this.#view(tensor));
    return { steps: this.#steps, inputs: this.#inputs, constants: this.#constants, outputs };
  }

  #view(tensor: Tensor): View {
    const view = this.#views.get(tensor.node)?.[tensor.index];
    if (view === undefined) throw new Error(`${tensor.node.op.name}: used before it is computed.`);
    return view;
  }

  #addSource(node: Node): void {
    if (this.#views.has(node)) return;
    if (node.op.name !== "constant") throw new Error(`${node.op.name}: an input that the graph does not list.`);
    const { data } = node.attrs["value"] as NdArray;
    let buffer = this.#constantBuffers.get(data);
    if (buffer === undefined) {
      buffer = { bytes: data.byteLength, source: { kind: "constant", index: this.#constants.push(data) - 1 } };
      this.#constantBuffers.set(data, buffer);
    }
    this.#views.set(node, [wholeView(buffer, node.outputs[0] as TensorType)]);
  }

  #viewsOf(node: Node, rule: ViewRule): View[] {
    let input = this.#view(node.inputs[0] as Tensor);
    let layouts = rule(node, { shape: input.shape, layout: input });
    if (layouts === undefined) {
      input = this.#rowMajor(input, node);
      layouts = rule(node, { shape: input.shape, layout: input });
    }
    if (layouts === undefined) throw new Error(`${node.op.name}: has no layout even on row-major memory.`);
    const { buffer, dtype } = input;
    return layouts.map(({ offset, strides }, i) => ({
      buffer,
      dtype,
      offset,
      shape: node.outputs[i]?.shape ?? [],
      strides,
    }));
  }

  #addKernel(node: Node, lower: KernelLowering): void {
    const { strided, unitStride } = lower;
    const inputs = node.inputs.map((tensor, i) => {
      const view = this.#view(tensor);
      if (strided !== "all" && strided?.includes(i) !== true) return this.#rowMajor(view, node);
      return unitStride?.includes(i) === true && !hasContiguousRows(view) ? this.#rowMajor(view, node) : view;
    });
    const outputs = node.outputs.map((type) => wholeView({ bytes: byteSize(type) }, type));
    this.#steps.push({
      kernel: lower.kernel,
      inputs,
      // A product may have been given another shape; its kernel knows only its own.
      outputs: node.op.name === "matmul" ? [rowMajorView(outputs[0] as View, productShape(node))] : outputs,
      ints: lower.ints?.(node) ?? [],
      floats: lower.floats?.(node) ?? [],
      workspaceBytes: lower.workspaceBytes?.(node) ?? 0,
      inPlace: lower.inPlace ?? [],
      label: labelOf(node),
    });
    this.#views.set(node, outputs);
  }

  /** The view itself when it is row-major, else a copy that is. */
  #rowMajor(view: View, reader: Node): View {
    if (isRowMajor(view.shape, view.strides)) return rowMajorView(view);
    let copy = this.#copies.get(view);
    if (copy === undefined) {
      copy = wholeView({ bytes: byteSize(view) }, view);
      this.#copies.set(view, copy);
      this.#steps.push(copyStep(view, copy, labelOf(reader)));
    }
    return copy;
  }
}

/** A step that moves a view to other memory of the same shape. */
export function copyStep(from: View, to: View, label: string): Step {
  return {
    kernel: "copy",
    inputs: [from],
    outputs: [to],
    ints: [],
    floats: [],
    workspaceBytes: 0,
    inPlace: [],
    label: `${label} (copy)`,
  };
}

export function wholeView(buffer: Buffer, type: { readonly shape: Shape; readonly dtype: DType }): View {
  return { buffer, dtype: type.dtype, offset: 0, shape: type.shape, strides: rowMajorStrides(type.shape) };
}

export function byteSize(type: { readonly shape: Shape; readonly dtype: DType }): number {
  return sizeOf(type.shape) * dtypeBytes[type.dtype];
}

function labelOf(node: Node): string {
  return node.scope === "" ? node.op.name : `${node.scope}: ${node.op.name}`;
}

function hasContiguousRows(view: View): boolean {
  return view.shape.at(-1) === 1 || view.strides.at(-1) === 1;
}
