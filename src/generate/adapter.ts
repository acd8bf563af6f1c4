import type { Model } from "../models/index.ts";
import { type Backend, type NdArray, type Tensor, type Tree, unflatten } from "../engine/index.ts";

/**
 * A change to a model that leaves its weights alone, as adapters make it: extra arrays, and a function that puts them
 * into the traced parameter tree. Generation knows nothing else of adapters.
 */
export interface AdapterEdit {
  /** Arrays by name, handed to the programs beside the model's own. */
  readonly parameters: Readonly<Record<string, NdArray>>;
  /** Traced once per program: the model's tree and the adapter's arrays under the same names, to the edited tree. */
  edit(tree: Tree<Tensor>, parameters: Readonly<Record<string, Tensor>>): Tree<Tensor>;
}

/** What the programs of a model depend on beside the model. */
export interface RunOptions {
  readonly backend?: Backend | undefined;
  readonly adapter?: AdapterEdit | undefined;
}

/** The parameter tree for the forward pass, with the adapter in it. */
export function editedTree(
  params: Readonly<Record<string, Tensor>>,
  extra: Readonly<Record<string, Tensor>>,
  adapter: AdapterEdit | undefined,
): Tree<Tensor> {
  const tree = unflatten(Object.entries(params));
  return adapter === undefined ? tree : adapter.edit(tree, extra);
}

/** Keeps what `make` gives for a model, backend and adapter, so that programs are shared between calls. */
export function perModel<T>(make: (model: Model, options: RunOptions) => T): (model: Model, options: RunOptions) => T {
  const made = new WeakMap<Model, { backend: unknown; adapter: unknown; value: T }[]>();
  return (model, { backend, adapter }) => {
    const known = made.get(model) ?? [];
    made.set(model, known);
    const found = known.find((entry) => entry.backend === backend && entry.adapter === adapter);
    if (found !== undefined) return found.value;
    const value = make(model, { backend, adapter });
    known.push({ backend, adapter, value });
    return value;
  };
}
