import type { OpDef } from "./node.ts";

export type {
  Layout,
  Lowering,
  NoGradient,
  OpDef,
  OpSample,
  Oracle,
  SampleInput,
  ViewRule,
  VjpRule,
} from "./node.ts";

const registry = new Map<string, OpDef>();

/** Registers an op. Throws when the name is taken or the definition has neither `evaluate` nor `decompose`. */
export function defineOp(definition: OpDef): OpDef {
  if (registry.has(definition.name)) throw new Error(`defineOp: "${definition.name}" is defined twice.`);
  if (definition.evaluate === undefined && definition.decompose === undefined) {
    throw new Error(`defineOp: "${definition.name}" needs evaluate or decompose.`);
  }
  registry.set(definition.name, definition);
  return definition;
}

/** All ops, in order of definition. The contract suite runs over this. */
export function registeredOps(): readonly OpDef[] {
  return [...registry.values()];
}
