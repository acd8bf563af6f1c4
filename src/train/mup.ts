import { PlinthError } from "../base/index.ts";
import { decodeFloat32, NdArray } from "../engine/index.ts";
import type { Model, ParameterSpec } from "../models/index.ts";

/** What muP multiplies a parameter's initial values and its learning rate by. */
export interface ParameterScale {
  readonly init: number;
  readonly lr: number;
}

/**
 * The maximal update parametrisation for Adam-like rules (Yang et al. 2022, "Tensor Programs V", table 3), relative to a
 * model of width `baseWidth`, where it changes nothing. With m = fan-in over the base's fan-in:
 *
 * | | initial standard deviation | learning rate |
 * |---|---|---|
 * | matrices inside the network | 1 / sqrt(m) | 1 / m |
 * | head | 1 / m | 1 / m |
 * | embeddings, norms, biases | 1 | 1 |
 *
 * The best learning rate is then the same for every width. Heads keep their width, so attention's scale needs no change.
 * Throws PlinthError for a model whose head is tied to its embedding, which cannot have both their rules.
 */
export function muP(model: Pick<Model, "family" | "config">, baseWidth: number): (name: string) => ParameterScale {
  const { family, config } = model;
  if (config.tieWordEmbeddings) {
    throw new PlinthError(
      `muP: the head of this ${family.modelType} is tied to its embedding, and the two learn at different rates`,
      "use an architecture whose head can be of its own (gpt2, llama, qwen3, ...)",
    );
  }
  const ratio = config.hiddenSize / baseWidth;
  const specs = family.parameters(config);
  return (name) => {
    switch (kindOf(specs[name])) {
      // Every fan-in inside the network is a multiple of the width, the same for all widths.
      case "hidden":
        return { init: 1 / Math.sqrt(ratio), lr: 1 / ratio };
      case "head":
        return { init: 1 / ratio, lr: 1 / ratio };
      case "other":
        return { init: 1, lr: 1 };
    }
  };
}

/** The model with its initial weights rescaled by {@link muP}. */
export function withMuP<M extends Model>(model: M, baseWidth: number): M {
  const scale = muP(model, baseWidth);
  const params = new Map(
    [...model.params].map(([name, array]) => {
      const { init } = scale(name);
      if (init === 1) return [name, array] as const;
      const values = decodeFloat32(array.dtype, array.data).map((value) => value * init);
      return [name, new NdArray("float32", array.shape, values)] as const;
    }),
  );
  return { ...model, params };
}

function kindOf(spec: ParameterSpec | undefined): "hidden" | "head" | "other" {
  if (spec === undefined || spec.shape.length < 2) return "other";
  if (spec.module !== "linear" && spec.module !== "conv1d") return "other";
  return spec.isHead === true ? "head" : "hidden";
}
