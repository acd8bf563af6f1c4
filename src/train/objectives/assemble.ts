import { type Tensor, type Tree, unflatten } from "../../engine/index.ts";

/** Builds the model's parameter tree from what trains and what does not; adapters bring their own. */
export type Assemble = (
  trainable: Readonly<Record<string, Tensor>>,
  frozen: Readonly<Record<string, Tensor>>,
  key: Tensor | undefined,
) => Tree<Tensor>;

/** The parameters as they are, trainable and frozen side by side. */
export const assemblePlain: Assemble = (trainable, frozen) =>
  unflatten([...Object.entries(frozen), ...Object.entries(trainable)]);
