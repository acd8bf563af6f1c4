/** Decoders of which some layers see all tokens and some only the latest: `layer_types` of config.json. */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";

const kinds = ["full_attention", "sliding_attention"] as const;
export type LayerType = (typeof kinds)[number];

/** To spread into a family's schema. */
export const layerTypeKeys = {
  layer_types: z.array(z.enum(kinds)).nullish(),
  sliding_window: z.int().positive().nullish().default(4096),
};

export interface LayerTypesConfig {
  /** Of every layer. */
  readonly layerTypes: readonly LayerType[];
  /** How many of the latest tokens a token sees in a sliding layer, itself included. */
  readonly slidingWindow?: number;
}

/**
 * What kind each layer is: as `layer_types` says, or where it is absent as `isSliding` does. Throws PlinthError where
 * there are not as many as layers, and where there is no window for one.
 */
export function parseLayerTypes(
  c: z.output<z.ZodObject<typeof layerTypeKeys>> & { readonly num_hidden_layers: number },
  isSliding: (layer: number) => boolean,
): LayerTypesConfig {
  const count = c.num_hidden_layers;
  const layerTypes =
    c.layer_types ??
    Array.from({ length: count }, (_, i): LayerType => (isSliding(i) ? "sliding_attention" : "full_attention"));
  if (layerTypes.length !== count) {
    throw new PlinthError(
      `config.json: layer_types has ${layerTypes.length} entries for num_hidden_layers ${count}`,
      "correct one of them",
    );
  }
  const window = c.sliding_window ?? undefined;
  if (window === undefined && layerTypes.includes("sliding_attention")) {
    throw new PlinthError(
      "config.json: layer_types has sliding_attention, and there is no sliding_window",
      "set sliding_window (and use_sliding_window, where there is one), or make all layers full_attention",
    );
  }
  return { layerTypes, ...(window === undefined ? {} : { slidingWindow: window }) };
}

/** The reverse of {@link parseLayerTypes}. */
export function formatLayerTypes({ layerTypes, slidingWindow }: LayerTypesConfig) {
  return { layer_types: layerTypes, sliding_window: slidingWindow ?? null };
}

/** The window of a layer; undefined where it sees everything. */
export function windowOf({ layerTypes, slidingWindow }: LayerTypesConfig, layer: number): number | undefined {
  return layerTypes[layer] === "sliding_attention" ? slidingWindow : undefined;
}

/** To spread into the schema of a family whose upper layers slide where it is asked for, the lower ones never (Qwen). */
export const upperWindowKeys = {
  ...layerTypeKeys,
  use_sliding_window: z.boolean().default(false),
  max_window_layers: z.int().nonnegative().default(28),
};

/** As {@link parseLayerTypes}: with `use_sliding_window` the layers from `max_window_layers` on slide. */
export function parseUpperWindows(
  c: z.output<z.ZodObject<typeof upperWindowKeys>> & { readonly num_hidden_layers: number },
): LayerTypesConfig {
  const window = c.use_sliding_window ? c.sliding_window : null;
  return parseLayerTypes(
    { ...c, sliding_window: window },
    (layer) => typeof window === "number" && layer >= c.max_window_layers,
  );
}

/** The reverse of {@link parseUpperWindows}. */
export function formatUpperWindows(c: LayerTypesConfig) {
  const first = c.layerTypes.indexOf("sliding_attention");
  return {
    ...formatLayerTypes(c),
    use_sliding_window: c.slidingWindow !== undefined,
    max_window_layers: first < 0 ? c.layerTypes.length : first,
  };
}
