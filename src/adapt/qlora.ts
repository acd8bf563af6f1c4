import { type Model, quantizeModel, quantizeTree } from "../models/index.ts";
import { defineAdapter } from "./adapter.ts";
import { adaptLora } from "./lora.ts";

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
    return adaptLora(model, base, options, (params) => quantizeTree(params, layouts));
  },
});
