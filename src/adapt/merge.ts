import { PlinthError } from "../base/index.ts";
import { add, decodeFloat32, encodeHost, jit, matmul, mul, NdArray, type Tensor, transpose } from "../engine/index.ts";
import type { Model } from "../models/index.ts";
import { type Lora, linearModules, loraScale } from "./lora-modules.ts";

/**
 * The model with W + scale · B A in place of W: one set of weights that needs no adapter. Computed in float32 and
 * stored in the weight's own element type. The model given is left untouched: keeping it is the exact way back.
 */
export async function mergeLora(model: Model, adapter: Lora): Promise<Model> {
  return addScaled(model, adapter, loraScale(adapter));
}

/**
 * Takes a merged adapter out again: W - scale · B A. Equal to the weights before merging up to the rounding of the
 * merged ones in their element type, not bit for bit; for the exact weights keep the model that was merged.
 */
export async function unmergeLora(model: Model, adapter: Lora): Promise<Model> {
  return addScaled(model, adapter, -loraScale(adapter));
}

async function addScaled(model: Model, adapter: Lora, scale: number): Promise<Model> {
  if (model.quantized !== undefined) {
    // Rounding W + scale * B A to 4 bits again would lose most of what was learned (huggingface/peft#2321).
    throw new PlinthError(
      "an adapter cannot be merged into quantised weights",
      "load the model without quantising and merge into that",
    );
  }
  const params = new Map(model.params);
  const modules = new Map(linearModules(model).map((module) => [module.path, module]));
  const update = jit(
    (weight: Tensor, down: Tensor, up: Tensor, transposed: boolean) => {
      const product = matmul(up, down);
      return add(weight, mul(transposed ? transpose(product, [1, 0]) : product, scale));
    },
    { name: "merge" },
  );
  for (const name of Object.keys(adapter.params)) {
    if (!name.endsWith(".lora_A.weight")) continue;
    const path = name.slice(0, -".lora_A.weight".length);
    const module = modules.get(path);
    const weight = params.get(`${path}.weight`);
    if (module === undefined || weight === undefined) {
      throw new PlinthError(
        `the adapter sits on ${path}, which this model does not have`,
        "use the model it was made for",
      );
    }
    const [down, up] = [adapter.params[name] as NdArray, adapter.params[`${path}.lora_B.weight`] as NdArray];
    const wide = new NdArray("float32", weight.shape, decodeFloat32(weight.dtype, weight.data));
    const merged = await update(wide, down, up, module.transposed);
    params.set(
      `${path}.weight`,
      new NdArray(weight.dtype, weight.shape, encodeHost(weight.dtype, (await merged.read()) as Float32Array)),
    );
  }
  for (const [name, array] of Object.entries(adapter.saved ?? {})) params.set(name, array);
  return { ...model, params };
}
