import type { Tokenizer } from "../data/index.ts";
import {
  type DType,
  decodeFloat32,
  encodeHost,
  NdArray,
  type QuantizedLayout,
  type Tree,
  unflatten,
} from "../engine/index.ts";
import type { ModelConfig, ModelFamily } from "./family.ts";
import type { CheckpointSource } from "./formats/checkpoint-source.ts";
import { initParameters } from "./init.ts";

/** An architecture, its configuration and its weights. A plain value: training returns another. */
export interface Model<C extends ModelConfig = ModelConfig> {
  readonly family: ModelFamily<C>;
  readonly config: C;
  /** Under the names of {@link ModelFamily.parameters}, in their order, in the element type of the checkpoint. */
  readonly params: ReadonlyMap<string, NdArray>;
  readonly tokenizer?: Tokenizer | undefined;
  /** Contents of generation_config.json. */
  readonly generationConfig?: Readonly<Record<string, unknown>> | undefined;
  /** Layouts of the weights that {@link quantizeModel} made packed words of, by parameter name. */
  readonly quantized?: ReadonlyMap<string, QuantizedLayout> | undefined;
  /** Parameters that no checkpoint gave: those of a new head, see {@link withHead}. */
  readonly fresh?: readonly string[] | undefined;
  /** How the checkpoint this came from was laid out; {@link saveModel} writes it back the same way. */
  readonly source?: CheckpointSource | undefined;
}

/**
 * A new model with random float32 weights, as the reference initialises them. The same seed gives the same weights,
 * parameter by parameter, whatever else the model holds.
 */
export function initModel<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  { seed }: { seed: number },
): Model<C> {
  return { family, config, params: initParameters(family.parameters(config), seed) };
}

/** The weights as the tree that {@link ModelFamily.forward} takes. */
export function paramsTree(params: Iterable<readonly [string, NdArray]>): Tree<NdArray> {
  return unflatten(params);
}

/** Number of weights. */
export function countParameters(model: Model): number {
  let count = 0;
  for (const [name, array] of model.params) {
    const layout = model.quantized?.get(name);
    count += layout === undefined ? array.size : layout.outSize * layout.inSize;
  }
  return count;
}

/** The element type all weights share, or undefined when they differ. */
export function modelDType(model: Model): DType | undefined {
  const types = new Set([...model.params.values()].map((array) => array.dtype));
  return types.size === 1 ? [...types][0] : undefined;
}

/**
 * The weights in another floating element type; arrays that have it already are shared, not copied. Training wants
 * float32: a step smaller than half a unit in the last place of bfloat16 would be lost.
 */
export function castParams(params: ReadonlyMap<string, NdArray>, dtype: DType): Map<string, NdArray> {
  return new Map([...params].map(([name, array]) => [name, castArray(array, dtype)]));
}

function castArray(array: NdArray, dtype: DType): NdArray {
  if (array.dtype === dtype) return array;
  const wide = decodeFloat32(array.dtype, array.data);
  return new NdArray(dtype, array.shape, dtype === "float32" ? wide : encodeHost(dtype, wide));
}
