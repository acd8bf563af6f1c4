import { decodeFloat32, NdArray } from "../engine/index.ts";
import { loadModel, type Model, saveModel } from "../models/index.ts";
import { assemblePlain, type Parameters } from "../train/index.ts";
import { defineAdapter, refuseOptions } from "./adapter.ts";

/** Full fine-tuning: every parameter trains, in float32; the result is a model folder. The identity edit. */
export const full = defineAdapter({
  method: "full",
  summary: "train every parameter; the result is a whole model",
  adapt(model, options) {
    refuseOptions("full", options, ["rank", "alpha", "dropout", "targets", "rsLora"]);
    const specs = model.family.parameters(model.config);
    return {
      trainable: float32Parameters(model),
      frozen: {},
      assemble: assemblePlain,
      decay: (name) => specs[name]?.decay ?? false,
      files: modelFiles(model),
    };
  },
});

/** The model's parameters as float32 arrays of their own, ready to be trained in place. */
export function float32Parameters(model: Model): Parameters {
  return Object.fromEntries(
    [...model.params].map(([name, { dtype, shape, data }]) => [
      name,
      // Copied also where nothing is to convert: training consumes these arrays, the model keeps its own.
      new NdArray("float32", shape, dtype === "float32" ? Float32Array.from(data) : decodeFloat32(dtype, data)),
    ]),
  );
}

/** Keeps trained parameters as a model folder in float32, whatever the model was loaded from. */
export function modelFiles(model: Model) {
  return {
    async save(parameters: Parameters, folder: string): Promise<void> {
      await saveModel({ ...model, params: new Map(Object.entries(parameters)) }, folder);
    },
    async load(folder: string): Promise<Parameters> {
      return Object.fromEntries((await loadModel(folder)).params);
    },
  };
}
