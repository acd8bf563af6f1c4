import { nearestName, PlinthError } from "../base/index.ts";
import type { Model } from "../models/index.ts";
import type { Assemble, ModelFiles, Parameters } from "../train/index.ts";

/**
 * A way to adapt a model: which parameters train, how they enter the model's tree, and how they are kept. Models and
 * the training loop know of none. One file per method, registered with {@link defineAdapter}.
 */
export interface Adapter {
  readonly method: string;
  readonly summary: string;
  /** Prepares a model for training. Throws PlinthError at options that do not fit the model. */
  adapt(model: Model, options: AdapterOptions): Adaptation;
}

/** Every method takes those it knows and refuses the others. */
export interface AdapterOptions {
  readonly seed?: number | undefined;
  readonly rank?: number | undefined;
  readonly alpha?: number | undefined;
  readonly dropout?: number | undefined;
  /** Names of modules, matched as suffixes at a dot; `all-linear` is every linear layer but the output head. */
  readonly targets?: readonly string[] | undefined;
  readonly rsLora?: boolean | undefined;
  /** Where the base model came from, for the adapter's file. */
  readonly baseModel?: string | undefined;
}

export interface Adaptation {
  readonly trainable: Parameters;
  readonly frozen: Parameters;
  readonly assemble: Assemble;
  /** Whether weight decay applies. */
  readonly decay: (name: string) => boolean;
  /** Whether a parameter is a matrix inside the network; default: it has two axes. */
  readonly hidden?: (name: string) => boolean;
  /** How the result becomes files: a model folder, or an adapter folder. */
  readonly files: ModelFiles;
  /** The adapted model, from trained parameters. */
  readonly result: (parameters: Parameters) => Model;
}

const registry = new Map<string, Adapter>();

/** Registers a method. Throws when its name is taken. */
export function defineAdapter(adapter: Adapter): Adapter {
  if (registry.has(adapter.method)) throw new Error(`defineAdapter: "${adapter.method}" is defined twice.`);
  registry.set(adapter.method, adapter);
  return adapter;
}

/** All registered methods, in order of definition. */
export function adapterMethods(): readonly Adapter[] {
  return [...registry.values()];
}

/** The method of that name. Throws PlinthError naming the nearest. */
export function findAdapter(method: string): Adapter {
  const adapter = registry.get(method);
  if (adapter !== undefined) return adapter;
  const near = nearestName(method, registry.keys());
  throw new PlinthError(
    `adaptation method "${method}" is not known`,
    `use ${near === undefined ? `one of ${[...registry.keys()].join(", ")}` : `"${near}"`}`,
  );
}

/** Refuses options that a method does not have, so that none is silently without effect. */
export function refuseOptions(method: string, options: AdapterOptions, names: readonly (keyof AdapterOptions)[]): void {
  for (const name of names) {
    if (options[name] === undefined) continue;
    throw new PlinthError(`method "${method}" has no option "${name}"`, "leave it out, or choose another method");
  }
}
