import { dtypeBytes, isNarrow } from "../ir/dtype.ts";
import { rowMajorStrides, sizeOf } from "../ir/shape.ts";
import type { Node, Tensor } from "../ir/tensor.ts";
import { type OpcodeName, opcodes } from "../ops/opcodes.ts";
import { reshapeLayout } from "../ops/reshape.ts";
import { type FusedGroup, isScalarConstant } from "./clusters.ts";
import { broadcastView, productShape, rowMajorView, type Step, type View } from "./lowered.ts";

/**
 * Writes the bytecode of a fused group (`native/KERNELS.md`). `viewOf` gives the memory of what the group reads, `rowMajor` a copy
 * where it cannot be walked as it lies. The step's outputs are new buffers, in the order of `group.stores`.
 */
export function fusedStep(group: FusedGroup, viewOf: (tensor: Tensor) => View, rowMajor: (view: View) => View): Step {
  const code = new Bytecode(group, viewOf);
  for (const node of group.nodes) code.emit(node);
  return group.head === undefined ? code.finish() : code.finishEpilogue(group.head, rowMajor);
}

/** Instructions name values first; registers are given out at the end, when it is known how long each value lives. */
class Bytecode {
  readonly #group: FusedGroup;
  readonly #viewOf: (tensor: Tensor) => View;
  readonly #members: ReadonlySet<Node>;
  /** Members that other members read. */
  readonly #readInside: ReadonlySet<Node>;
  readonly #values = new Map<Node, number[]>();
  readonly #constants = new Map<string, number>();
  readonly #floats: number[] = [];
  readonly #inputs: View[] = [];
  readonly #code: { readonly opcode: OpcodeName; readonly value: number; readonly slots: readonly Slot[] }[] = [];
  #nextValue = 0;

  constructor(group: FusedGroup, viewOf: (tensor: Tensor) => View) {
    this.#group = group;
    this.#viewOf = viewOf;
    this.#members = new Set(group.nodes);
    this.#readInside = new Set(group.nodes.flatMap((node) => node.inputs.map((tensor) => tensor.node)));
  }

  /** Adds a node: its operands are loaded where needed, its result stored where it leaves the kernel. */
  emit(node: Node): void {
    const output = this.#group.stores.indexOf(node);
    const { lower } = node.op;
    const dtype = node.outputs[0]?.dtype ?? "float32";
    if (node === this.#group.head) {
      const value = this.#rounded(node, this.#push("load", [literal(0)]));
      this.#values.set(node, [value]);
      if (output >= 0) this.#push("store", [literal(output), register(value)]);
      return;
    }
    if (lower.kind === "kernel") {
      const [kind] = lower.ints?.(node) ?? [];
      const value = this.#read(node.inputs[0] as Tensor);
      this.#push(kind === 0 ? "reduce_sum" : "reduce_max", [literal(output), register(value)]);
      return;
    }
    if (lower.kind !== "elementwise") throw new Error(`fused: ${node.op.name} is not elementwise.`);
    const operands = node.inputs.map((tensor) => this.#read(tensor));
    const opcode = lower.opcode(
      node.attrs,
      node.inputs.map((tensor) => tensor.type),
    );
    let value =
      opcode === "identity" ? (operands[0] as number) : this.#push(opcode as OpcodeName, operands.map(register));
    // Registers hold bool as 0 or 1: conversion to it is a comparison.
    if (node.op.name === "cast" && dtype === "bool" && node.inputs[0]?.dtype !== "bool") {
      value = this.#push("ne", [register(value), register(this.#constant("const", 0))]);
    }
    if (opcode !== "identity" || node.inputs[0]?.dtype !== dtype) value = this.#rounded(node, value);
    this.#values.set(node, [value]);
    if (output >= 0) this.#push(dtype === "int32" ? "store_int" : "store", [literal(output), register(value)]);
  }

  /** Registers are wide: a narrow result is rounded for whoever reads it here, as a store does for all others. */
  #rounded(node: Node, value: number): number {
    const dtype = node.outputs[0]?.dtype ?? "float32";
    if (!isNarrow(dtype) || !this.#readInside.has(node)) return value;
    return this.#push(dtype === "bfloat16" ? "round_bf16" : "round_f16", [register(value)]);
  }

  #push(opcode: OpcodeName, slots: readonly Slot[]): number {
    const value = this.#nextValue++;
    this.#code.push({ opcode, value, slots });
    return value;
  }

  #read(tensor: Tensor): number {
    const known = this.#values.get(tensor.node)?.[tensor.index];
    if (known !== undefined) return known;
    if (this.#members.has(tensor.node)) throw new Error(`fused: ${tensor.node.op.name} is read before it is computed.`);
    const value = this.#load(tensor);
    const values = this.#values.get(tensor.node) ?? [];
    values[tensor.index] = value;
    this.#values.set(tensor.node, values);
    return value;
  }

  #load(tensor: Tensor): number {
    const isInt = tensor.dtype === "int32";
    if (isScalarConstant(tensor.node)) {
      const { data } = tensor.node.attrs["value"] as { readonly data: ArrayLike<number> };
      // Narrow floats are raw bits on the host; those are loaded like any operand.
      if (tensor.dtype === "float32" || isInt || tensor.dtype === "bool") {
        return this.#constant(isInt ? "const_int" : "const", data[0] as number);
      }
    }
    const view = broadcastView(this.#viewOf(tensor), this.#group.shape);
    this.#inputs.push(view);
    // The product itself is what an epilogue loads as 0.
    const first = this.#group.head === undefined ? 0 : 1;
    return this.#push(isInt ? "load_int" : "load", [literal(first + this.#inputs.length - 1)]);
  }

  #constant(opcode: "const" | "const_int", number: number): number {
    const key = `${opcode} ${Object.is(number, -0) ? "-0" : number}`;
    let value = this.#constants.get(key);
    if (value === undefined) {
      value = this.#push(opcode, [literal(this.#floats.push(number) - 1)]);
      this.#constants.set(key, value);
    }
    return value;
  }

  /** The product's kernel with the code as its epilogue, over the product's own shape. */
  finishEpilogue(head: Node, rowMajor: (view: View) => View): Step {
    const { lower } = head.op;
    if (lower.kind !== "kernel") throw new Error(`fused: ${head.op.name} has no kernel.`);
    const shape = productShape(head);
    const inputs = this.#inputs.map((view) => {
      const layout = reshapeLayout(view.shape, view, shape);
      return layout === undefined ? rowMajorView(rowMajor(view), shape) : { ...view, ...layout, shape };
    });
    const { registers, code } = this.#allocate();
    return {
      kernel: lower.kernel,
      inputs: [...head.inputs.map((tensor) => this.#viewOf(tensor)), ...inputs],
      outputs: this.#group.stores.map((node) => newView(node, shape)),
      ints: [...(lower.ints?.(head) ?? []), registers, 0, this.#code.length, ...code],
      floats: this.#floats,
      workspaceBytes: 0,
      inPlace: [],
      label: label(this.#group.nodes),
    };
  }

  finish(): Step {
    const { stores, shape, reducedAxes, nodes } = this.#group;
    const kept = shape.slice(0, shape.length - reducedAxes);
    const outputs = stores.map((node) => newView(node, node.op.lower.kind === "kernel" ? kept : shape));
    const { registers, code } = this.#allocate();
    const collapsed = collapse(this.#inputs, shape, reducedAxes);
    return {
      kernel: "fused",
      inputs: collapsed.inputs,
      outputs: outputs.map((view, i) => {
        const to = stores[i]?.op.lower.kind === "kernel" ? collapsed.kept : collapsed.shape;
        return { ...view, shape: to, strides: rowMajorStrides(to) };
      }),
      ints: [registers, collapsed.reducedAxes, this.#code.length, ...code],
      floats: this.#floats,
      workspaceBytes: 0,
      inPlace: this.#sharablePairs(collapsed.inputs, collapsed.shape),
      label: label(nodes),
    };
  }

  /** Full-size outputs may overwrite inputs that are read element for element in the same place, once they are loaded. */
  #sharablePairs(inputs: readonly View[], shape: readonly number[]): [number, number][] {
    const strides = rowMajorStrides(shape);
    const position = (opcodes: readonly OpcodeName[], index: number): number =>
      this.#code.findIndex(({ opcode, slots }) => opcodes.includes(opcode) && slots[0]?.index === index);
    const pairs: [number, number][] = [];
    this.#group.stores.forEach((node, output) => {
      if (node.op.lower.kind === "kernel") return;
      const stored = position(["store", "store_int"], output);
      inputs.forEach((view, input) => {
        const sameWidth = dtypeBytes[view.dtype] === dtypeBytes[node.outputs[0]?.dtype ?? "float32"];
        const inOrder = view.strides.every((stride, i) => stride === strides[i] || shape[i] === 1);
        if (sameWidth && inOrder && position(["load", "load_int"], input) < stored) pairs.push([output, input]);
      });
    });
    return pairs;
  }

  /** Linear scan: a register is free again once the last instruction that reads it has run. */
  #allocate(): { registers: number; code: number[] } {
    const lastUse = new Map<number, number>();
    this.#code.forEach(({ slots }, i) => {
      for (const slot of slots) if (slot.register) lastUse.set(slot.index, i);
    });
    const assigned = new Map<number, number>();
    const free: number[] = [];
    let registers = 0;
    const code: number[] = [];
    this.#code.forEach(({ opcode, value, slots }, i) => {
      const operands = slots.map((slot) => (slot.register ? (assigned.get(slot.index) as number) : slot.index));
      for (const slot of slots) {
        if (!slot.register || lastUse.get(slot.index) !== i) continue;
        lastUse.delete(slot.index);
        free.push(assigned.get(slot.index) as number);
      }
      let target = 0;
      if (!opcode.startsWith("store") && !opcode.startsWith("reduce_")) {
        target = free.pop() ?? registers++;
        assigned.set(value, target);
        if (!lastUse.has(value)) free.push(target);
      }
      code.push(opcodes[opcode], target, operands[0] ?? 0, operands[1] ?? 0, operands[2] ?? 0);
    });
    return { registers, code };
  }
}

/** Memory of its own for a node's result. */
function newView(node: Node, shape: readonly number[]): View {
  const dtype = node.outputs[0]?.dtype ?? "float32";
  const bytes = sizeOf(shape) * dtypeBytes[dtype];
  return { buffer: { bytes }, dtype, offset: 0, shape, strides: rowMajorStrides(shape) };
}

interface Slot {
  readonly index: number;
  readonly register: boolean;
}
const register = (index: number): Slot => ({ index, register: true });
const literal = (index: number): Slot => ({ index, register: false });

/** Merges neighbouring axes that every operand walks as one, so that inner loops are long. Never across the reduction. */
function collapse(
  inputs: readonly View[],
  shape: readonly number[],
  reducedAxes: number,
): { inputs: View[]; shape: number[]; kept: number[]; reducedAxes: number } {
  const boundary = shape.length - reducedAxes;
  const axes: { size: number; strides: number[]; reduced: boolean }[] = [];
  shape.forEach((size, i) => {
    const reduced = i >= boundary;
    const strides = inputs.map((view) => (size === 1 ? 0 : (view.strides[i] as number)));
    const last = axes.at(-1);
    if (last !== undefined && last.reduced === reduced) {
      if (size === 1) return;
      if (last.size === 1 || last.strides.every((stride, k) => stride === (strides[k] as number) * size)) {
        last.size *= size;
        last.strides = strides;
        return;
      }
    }
    axes.push({ size, strides, reduced });
  });
  const sizes = axes.map((axis) => axis.size);
  return {
    inputs: inputs.map((view, k) => ({
      ...view,
      shape: sizes,
      strides: axes.map((axis) => axis.strides[k] as number),
    })),
    shape: sizes,
    kept: axes.filter((axis) => !axis.reduced).map((axis) => axis.size),
    reducedAxes: axes.filter((axis) => axis.reduced).length,
  };
}

/** Scope of the last node with one, and the ops. */
function label(nodes: readonly Node[]): string {
  const scope = nodes.findLast((node) => node.scope !== "")?.scope;
  const ops = nodes.map((node) => node.op.name);
  const text = ops.length > 6 ? `${ops.slice(0, 3).join("+")}+...+${ops.slice(-2).join("+")}` : ops.join("+");
  return scope === undefined ? text : `${scope}: ${text}`;
}
