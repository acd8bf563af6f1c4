import { assemblePlain, float32Parameters, isHidden, modelFiles, withParameters } from "../train/index.ts";
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
      hidden: (name) => isHidden(specs[name], model.config.vocabSize),
      files: modelFiles(model),
      result: (parameters) => withParameters(model, parameters),
    };
  },
});
