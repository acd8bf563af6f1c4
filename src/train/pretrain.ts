import type { Batch, BatchSource } from "../data/index.ts";
import { decodeFloat32, NdArray } from "../engine/index.ts";
import { loadModel, type Model, type ParameterSpec, saveModel } from "../models/index.ts";
import { objectiveOf, type PretrainingOptions } from "./objectives/index.ts";
import { train } from "./train.ts";
import type { ModelFiles, Parameters, TrainOptions, TrainResult } from "./types.ts";

/** {@link TrainOptions} for a language model on token batches. */
export interface LanguageModelOptions
  extends Omit<TrainOptions, "trainable" | "frozen" | "loss" | "data" | "heldOut" | "files" | "decay" | "hidden">,
    Omit<PretrainingOptions, "seed"> {
  readonly data: BatchSource;
  /** The same batches every time it is iterated. */
  readonly heldOut?: AsyncIterable<Batch> | undefined;
  /**
   * Default: next-token prediction ("clm") for decoders, masked language modelling ("mlm") for encoders, span corruption
   * ("span") for encoder-decoders.
   */
  readonly objective?: string | undefined;
}

/** What came of training, and the model itself. */
export interface TrainedModel extends Omit<TrainResult, "parameters"> {
  readonly model: Model;
}

/**
 * Trains all weights of a language model on an objective (`objectives/`), in float32. A model
 * from `initModel` is pretrained, a loaded one trained on. The model given is left as it is; `out` becomes a model folder. Throws as `train` does.
 */
export async function pretrain(model: Model, options: LanguageModelOptions): Promise<TrainedModel> {
  const { data, heldOut, remat, objective: name, wholeWords, ...rest } = options;
  const objective = objectiveOf(model, name, { remat, wholeWords, seed: rest.seed });
  const specs = model.family.parameters(model.config);
  const { parameters, ...result } = await train({
    ...rest,
    trainable: float32Parameters(model),
    loss: objective.loss,
    data: objective.data(data),
    ...(heldOut === undefined ? {} : { heldOut: objective.heldOut(heldOut) }),
    decay: (name) => specs[name]?.decay ?? false,
    hidden: (name) => isHidden(specs[name], model.config.vocabSize),
    files: modelFiles(model),
  });
  return { ...result, model: withParameters(model, parameters) };
}

/** Whether a parameter is a matrix between embedding and head. */
export function isHidden(spec: ParameterSpec | undefined, vocabSize: number): boolean {
  return (spec?.module === "linear" || spec?.module === "conv1d") && !spec.shape.includes(vocabSize);
}

/** The model's parameters as float32 arrays of their own, ready to be trained in place. */
export function float32Parameters(model: Model): Parameters {
  return Object.fromEntries(
    [...model.params].map(([name, { dtype, shape, data }]) => [
      name,
      // Copied also where nothing is to convert: training consumes these arrays, the model keeps its own.
      new NdArray("float32", shape, dtype === "float32" ? data.slice() : decodeFloat32(dtype, data)),
    ]),
  );
}

/** The model with other values of its parameters. */
export function withParameters(model: Model, parameters: Parameters): Model {
  return { ...model, params: new Map([...model.params.keys()].map((name) => [name, parameters[name] as NdArray])) };
}

/** Keeps trained parameters as a model folder in float32, whatever the model was loaded from. */
export function modelFiles(model: Model): ModelFiles {
  return {
    save: (parameters, folder) => saveModel(withParameters(model, parameters), folder),
    load: async (folder) => Object.fromEntries((await loadModel(folder)).params),
  };
}
