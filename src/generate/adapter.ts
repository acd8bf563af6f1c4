import type { NdArray, Tensor, Tree } from "../engine/index.ts";

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
