import { nearestName, PlinthError } from "../../base/index.ts";
import type { Shape, Tensor } from "../../engine/index.ts";

/** What an update rule may know of a parameter before there are values. */
export interface ParameterInfo {
  readonly name: string;
  readonly shape: Shape;
  /** Whether weight decay applies (false for norms and biases). */
  readonly decay: boolean;
  /** A matrix inside the network: neither embedding nor head, norm or bias. */
  readonly hidden: boolean;
}

/**
 * An update rule. Everything that changes from step to step reaches the program as a runtime scalar, so that a run
 * compiles once.
 */
export interface Optimizer {
  /** State arrays kept for a parameter, by name: each float32, starting at zero. */
  slots(parameter: ParameterInfo): Readonly<Record<string, Shape>>;
  /** Values of this step beside the learning rate; `step` counts from 1. The same names at every step. */
  scalars(step: number): Readonly<Record<string, number>>;
  /** Builds the update of one parameter. */
  update(context: UpdateContext): { readonly param: Tensor; readonly slots: Readonly<Record<string, Tensor>> };
}

export interface UpdateContext {
  readonly parameter: ParameterInfo;
  readonly param: Tensor;
  /** Gradient of the summed loss; multiply by `gradScale` to get the clipped gradient of the mean loss. */
  readonly grad: Tensor;
  readonly gradScale: Tensor;
  readonly slots: Readonly<Record<string, Tensor>>;
  readonly lr: Tensor;
  readonly scalars: Readonly<Record<string, Tensor>>;
}

export interface OptimizerDefinition {
  readonly name: string;
  /** Option names and their defaults, all numbers. */
  readonly defaults: Readonly<Record<string, number>>;
  create(options: Readonly<Record<string, number>>): Optimizer;
}

const registry = new Map<string, OptimizerDefinition>();

/** Registers an optimiser. Throws when the name is taken. */
export function defineOptimizer(definition: OptimizerDefinition): OptimizerDefinition {
  if (registry.has(definition.name)) throw new Error(`defineOptimizer: "${definition.name}" is defined twice.`);
  registry.set(definition.name, definition);
  return definition;
}

/** The options of an optimiser and their defaults; empty for a name that is not known. */
export function optimizerDefaults(name: string): Readonly<Record<string, number>> {
  return registry.get(name)?.defaults ?? {};
}

/** Names of all optimisers, in order of definition. */
export function optimizerNames(): string[] {
  return [...registry.keys()];
}

/** Makes an optimiser by name. Throws PlinthError naming an unknown name or option and the nearest known one. */
export function createOptimizer(name: string, options: Readonly<Record<string, number>> = {}): Optimizer {
  const definition = registry.get(name);
  if (definition === undefined) {
    const near = nearestName(name, registry.keys());
    throw new PlinthError(
      `optimizer "${name}" is not known`,
      `use ${near === undefined ? `one of ${optimizerNames().join(", ")}` : `"${near}"`}`,
    );
  }
  for (const key of Object.keys(options)) {
    if (key in definition.defaults) continue;
    const known = Object.keys(definition.defaults);
    throw new PlinthError(
      `optimizer ${name} has no option "${key}"`,
      `use ${nearestName(key, known) ?? `one of ${known.join(", ")}`}`,
    );
  }
  return definition.create({ ...definition.defaults, ...options });
}
