import { PlinthError } from "../../base/index.ts";
import { formatShape } from "../ir/shape.ts";
import type { TensorType } from "../ir/tensor.ts";
import { isBranch } from "../tree.ts";

/** Arguments of a jitted function taken apart: what is an array, and what decides which program runs. */
export interface FlatArguments<Leaf> {
  readonly leaves: readonly Leaf[];
  /** Two calls share a program exactly when this text is equal. */
  readonly signature: string;
}

/**
 * Collects the array leaves of the arguments in insertion order and writes the signature: structure, shapes, element
 * types and the values of static leaves (numbers, strings, booleans, null). Throws PlinthError at any other leaf.
 */
export function flattenArguments<Leaf extends TensorType>(
  args: readonly unknown[],
  isLeaf: (value: unknown) => value is Leaf,
  name: string,
): FlatArguments<Leaf> {
  const leaves: Leaf[] = [];
  let signature = "";
  const visit = (value: unknown, path: () => string): void => {
    if (isLeaf(value)) {
      leaves.push(value);
      signature += `${value.dtype}${formatShape(value.shape)};`;
    } else if (Array.isArray(value)) {
      signature += "(";
      value.forEach((child, i) => {
        visit(child, () => `${path()}.${i}`);
      });
      signature += ")";
    } else if (isBranch(value)) {
      signature += "{";
      for (const [key, child] of Object.entries(value)) {
        if (child === undefined) continue;
        signature += `${JSON.stringify(key)}:`;
        visit(child, () => `${path()}.${key}`);
      }
      signature += "}";
    } else if (isStatic(value)) {
      signature += typeof value === "string" ? JSON.stringify(value) : `${String(value)};`;
    } else {
      throw new PlinthError(
        `${name}: expected arrays, numbers, strings or booleans in its arguments, got ${describe(value)} at ${path()}`,
        "pass an NdArray, or close over the value inside the traced function",
      );
    }
  };
  args.forEach((arg, i) => {
    visit(arg, () => `${i}`);
    signature += "|";
  });
  return { leaves, signature };
}

/** Same structure with the array leaves replaced in order; static leaves stay. `path` is dotted, from the argument's name. */
export function replaceLeaves(
  args: readonly unknown[],
  isLeaf: (value: unknown) => boolean,
  argumentNames: readonly string[],
  replace: (path: string, argument: number) => unknown,
): unknown[] {
  const visit = (value: unknown, path: string, argument: number): unknown => {
    if (isLeaf(value)) return replace(path, argument);
    if (Array.isArray(value)) return value.map((child, i) => visit(child, `${path}.${i}`, argument));
    if (isBranch(value)) {
      return Object.fromEntries(
        Object.entries(value).map(([key, child]) => [key, visit(child, `${path}.${key}`, argument)]),
      );
    }
    return value;
  };
  return args.map((arg, i) => visit(arg, argumentNames[i] ?? `${i}`, i));
}

function isStatic(value: unknown): boolean {
  return (
    value === undefined ||
    value === null ||
    typeof value === "number" ||
    typeof value === "string" ||
    typeof value === "boolean"
  );
}

/** How a message names a value of the wrong kind. */
export function describe(value: unknown): string {
  if (value === null || typeof value !== "object") return value === undefined ? "undefined" : typeof value;
  return `a ${(value as object).constructor?.name ?? "object"}`;
}
