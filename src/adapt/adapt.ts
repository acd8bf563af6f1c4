import { expectDecoder, type Model } from "../models/index.ts";
import {
  causalLm,
  causalLmData,
  causalLmHeldOut,
  type LanguageModelOptions,
  type TrainedModel,
  train,
} from "../train/index.ts";
import { type AdapterOptions, findAdapter } from "./adapter.ts";

export interface AdaptOptions extends LanguageModelOptions {
  /** A registered method: `lora`, `full`. */
  readonly method: string;
  readonly adapter?: AdapterOptions;
}

/**
 * Adapts a language model to token batches (documents, or conversations of which only the answers are targets) by a
 * registered method. The model given is left as it is; `out` becomes an adapter folder or a model folder. Throws as
 * `train` does, and at options that the method does not have.
 */
export async function adapt(model: Model, options: AdaptOptions): Promise<TrainedModel> {
  expectDecoder(model.family, "adapt");
  const { method, adapter = {}, data, heldOut, remat, ...rest } = options;
  const { assemble, result, ...parts } = findAdapter(method).adapt(model, { seed: rest.seed, ...adapter });
  const { parameters, ...trained } = await train({
    ...rest,
    ...parts,
    loss: causalLm(model.family, model.config, { assemble, remat }),
    data: causalLmData(data),
    ...(heldOut === undefined ? {} : { heldOut: causalLmHeldOut(heldOut) }),
  });
  return { ...trained, model: result(parameters) };
}
