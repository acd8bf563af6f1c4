import { type Backend, createBackend, NdArray } from "../../src/engine/index.ts";
import { initModel, loadModel, type Model, type ModelDials, modelFamily } from "../../src/models/index.ts";
import { asset } from "../assets.ts";

export const stories = "weights/stories260k-hf";

let loaded: Promise<Model> | undefined;
/** The real 260K-parameter Llama of the assets, opened once per test file. */
export function storiesModel(): Promise<Model> {
  loaded ??= loadModel(asset(stories));
  return loaded;
}

/** A random model without tokenizer whose next-token distributions are far from uniform. */
export function tinyModel(modelType: "gpt2" | "llama", dials: Partial<ModelDials> = {}): Model {
  const family = modelFamily(modelType);
  const config = family.createConfig({
    vocabSize: 37,
    contextLength: 40,
    hiddenSize: 16,
    numLayers: 2,
    numHeads: 4,
    ...(modelType === "llama" ? { numKvHeads: 2 } : {}),
    ...dials,
  });
  const model = initModel(family, config, { seed: 7 });
  const params = new Map(
    [...model.params].map(([name, array]) => {
      const scale = array.shape.length > 1 ? 12 : 1;
      return [
        name,
        NdArray.float32(
          array.shape,
          (array.data as Float32Array).map((x) => x * scale),
        ),
      ];
    }),
  );
  return { ...model, params };
}

/** The float64 oracle: slow, exact, there on every machine. */
export const reference: Backend = createBackend("reference");
