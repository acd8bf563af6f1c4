import type { Model } from "../models/index.ts";
import { type LanguageModelOptions, objectiveOf, type TrainedModel, train } from "../train/index.ts";
import { type AdapterOptions, findAdapter } from "./adapter.ts";

export interface AdaptOptions extends LanguageModelOptions {
  /** A registered method: `lora`, `full`. */
  readonly method: string;
  readonly adapter?: AdapterOptions;
}

/**
 * Adapts a model to batches (documents, conversations of which only the answers are targets, or whatever its head learns from) by a
 * registered method. The model given is left as it is; `out` becomes an adapter folder or a model folder. Throws as
 * `train` does, and at options that the method does not have.
 */
export async function adapt(model: Model, options: AdaptOptions): Promise<TrainedModel> {
  const { method, adapter = {}, data, heldOut, remat, objective: name, wholeWords, ...rest } = options;
  const { assemble, result, ...parts } = findAdapter(method).adapt(model, { seed: rest.seed, ...adapter });
  const objective = objectiveOf(model, name, { wholeWords, remat, assemble, seed: rest.seed });
  const { parameters, ...trained } = await train({
    ...rest,
    ...parts,
    loss: objective.loss,
    data: objective.data(data),
    ...(heldOut === undefined ? {} : { heldOut: objective.heldOut(heldOut) }),
  });
  return { ...trained, model: result(parameters) };
}
