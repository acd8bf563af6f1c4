import { PlinthError } from "../../base/index.ts";
import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { Tensor, type TensorType } from "../ir/tensor.ts";
import { input, scalar } from "../ops/source.ts";
import { isBranch } from "../tree.ts";
import { describe, replaceLeaves } from "./signature.ts";

/** A traced function: its graph, and the tree of its result with each leaf standing for a graph output. */
export interface Trace {
  readonly graph: Graph;
  readonly rebuild: (outputs: readonly unknown[]) => unknown;
}

/**
 * Runs `fn` once on symbolic tensors and records what it computes. `isLeaf` tells which values in `args` become inputs;
 * the others are passed as they are. Throws PlinthError when the result holds something other than tensors and numbers.
 */
export function trace(
  fn: (...args: never) => unknown,
  args: readonly unknown[],
  options: {
    readonly name: string;
    readonly donate: readonly number[];
    readonly isLeaf: (value: unknown) => value is TensorType;
    readonly leaves: readonly TensorType[];
  },
): Trace {
  const inputs: Tensor[] = [];
  const inputNames: string[] = [];
  const donated = new Set<number>();
  const symbolic = replaceLeaves(args, options.isLeaf, parameterNames(fn), (path, argument) => {
    const index = inputs.length;
    const tensor = input(options.leaves[index] as TensorType, path);
    inputs.push(tensor);
    inputNames.push(path);
    if (options.donate.includes(argument)) donated.add(index);
    return tensor;
  });
  const result = (fn as (...args: unknown[]) => unknown)(...symbolic);
  if (result instanceof Promise) {
    throw new PlinthError(
      `${options.name}: expected tensors from the traced function, got a Promise`,
      "trace a synchronous function; await outside of it",
    );
  }
  const outputs: Tensor[] = [];
  const template = mapOutputs(result, options.name, (tensor) => outputs.push(tensor) - 1);
  checkInputs(outputs, inputs, options.name);
  return { graph: { inputs, inputNames, outputs, donated }, rebuild: (values) => fillTemplate(template, values) };
}

function checkInputs(outputs: readonly Tensor[], inputs: readonly Tensor[], name: string): void {
  const own = new Set(inputs.map((tensor) => tensor.node));
  for (const node of topologicalOrder(outputs)) {
    if (node.op.name !== "input" || own.has(node)) continue;
    throw new PlinthError(
      `${name}: the traced function uses ${String(node.attrs["name"] ?? "an input")}, which belongs to another trace`,
      "pass it as an argument; symbolic tensors live only inside the function that they were traced for",
    );
  }
}

class Slot {
  readonly index: number;
  constructor(index: number) {
    this.index = index;
  }
}

function mapOutputs(result: unknown, name: string, add: (tensor: Tensor) => number): unknown {
  const visit = (value: unknown, path: string): unknown => {
    if (value === undefined) return undefined;
    if (value instanceof Tensor) return new Slot(add(value));
    if (typeof value === "number") return new Slot(add(scalar(value)));
    if (Array.isArray(value)) return value.map((child, i) => visit(child, `${path}.${i}`));
    if (isBranch(value)) {
      return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, visit(child, `${path}.${key}`)]));
    }
    throw new PlinthError(
      `${name}: expected tensors or numbers in what the traced function returns, got ${describe(value)} at ${path}`,
      "return tensors only; keep other values outside of the traced function",
    );
  };
  return visit(result, "result");
}

function fillTemplate(template: unknown, values: readonly unknown[]): unknown {
  if (template instanceof Slot) return values[template.index];
  if (Array.isArray(template)) return template.map((child) => fillTemplate(child, values));
  if (isBranch(template)) {
    return Object.fromEntries(Object.entries(template).map(([key, child]) => [key, fillTemplate(child, values)]));
  }
  return template;
}

/** Names of a function's plain parameters, for messages: `(params, {x}) => ...` gives `["params", undefined]`. */
export function parameterNames(fn: (...args: never) => unknown): string[] {
  const text = fn.toString();
  const single = /^(?:async\s+)?([A-Za-z_$][\w$]*)\s*=>/.exec(text);
  if (single !== null) return [single[1] as string];
  const open = text.indexOf("(");
  const names: string[] = [];
  let depth = 0;
  let current = "";
  for (const char of text.slice(open + 1)) {
    if (depth === 0 && (char === "," || char === ")")) {
      names.push(current);
      current = "";
      if (char === ")") break;
      continue;
    }
    if ("([{".includes(char)) depth++;
    if (")]}".includes(char)) depth--;
    current += char;
  }
  return names.map((text, i) => /^\s*([A-Za-z_$][\w$]*)/.exec(text)?.[1] ?? `${i}`);
}
