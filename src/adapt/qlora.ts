import { type Model, quantizeModel, quantizeTree } from "../models/index.ts";
import { assemblePlain } from "../train/index.ts";
import { defineAdapter } from "./adapter.ts";
import { initLora, withLora } from "./lora.ts";
import { editLora, type LoraScale } from "./lora-edit.ts";
import { linearModules, loraScale } from "./lora-modules.ts";
import { readPeft, writePeft } from "./peft.ts";

/**
 * LoRA on a frozen base of 4-bit NormalFloat weights with double quantisation in groups of 64 (QLoRA, Dettmers et al.
 * 2023): an eighth of the memory of float32 weights. The additions train in float32 and are kept as those of `lora`, in
 * PEFT's format; they were trained beside the quantised weights and fit these best, but work on the full ones too.
 */
export const qlora = defineAdapter({
  method: "qlora",
  summary: "lora on weights of 4 bits: the least memory; the result is the same kind of adapter",
  adapt(model, options) {
    const base: Model = model.quantized === undefined ? quantizeModel(model, { format: "nf4" }) : model;
    const layouts = base.quantized ?? new Map();
    const adapter = initLora(model, options);
    const scale: LoraScale = { scale: loraScale(adapter), dropout: adapter.dropout };
    return {
      trainable: adapter.params,
      frozen: Object.fromEntries(base.params),
      assemble: (trainable, frozen, key) =>
        editLora(quantizeTree(assemblePlain({}, frozen, key), layouts), trainable, scale, key),
      decay: () => true,
      files: {
        save: (params, folder) => writePeft({ ...adapter, params }, linearModules(model), folder),
        load: async (folder) => (await readPeft(folder, linearModules(model))).params,
      },
      result: (params) => withLora(base, { ...adapter, params }),
    };
  },
});
