import { z } from "zod";
import { PlinthError } from "../../base/index.ts";

/** Rotary position parameters as config.json has them, under `rope_scaling` or, lately, `rope_parameters`. */
const ropeSchema = z.discriminatedUnion("rope_type", [
  z.strictObject({ rope_type: z.literal("default") }),
  z.strictObject({ rope_type: z.literal("linear"), factor: z.number().min(1) }),
  z.strictObject({
    rope_type: z.literal("llama3"),
    factor: z.number().min(1),
    low_freq_factor: z.number().positive(),
    high_freq_factor: z.number().positive(),
    original_max_position_embeddings: z.int().positive(),
  }),
]);
export type RopeScaling = z.output<typeof ropeSchema>;
const ropeTypes: readonly string[] = ropeSchema.options.map((option) => option.shape.rope_type.value);

/** The keys of config.json that rotary positions are read from. */
export interface RopeKeys {
  readonly rope_theta?: number | undefined;
  readonly rope_scaling?: unknown;
  readonly rope_parameters?: unknown;
}

/**
 * Base and scaling of rotary positions. Older files have `rope_theta` and `rope_scaling` (with `type` for `rope_type`),
 * newer ones `rope_parameters` that holds both. Throws PlinthError naming a kind of scaling that is not implemented.
 */
export function parseRope(keys: RopeKeys): { theta: number; scaling: RopeScaling } {
  const key = keys.rope_parameters === undefined || keys.rope_parameters === null ? "rope_scaling" : "rope_parameters";
  const source = keys[key] ?? {};
  if (typeof source !== "object" || Array.isArray(source)) {
    throw new PlinthError(
      `config.json: ${key}: expected an object, got ${JSON.stringify(source)}`,
      "correct config.json",
    );
  }
  const { rope_theta: inner, type, partial_rotary_factor: share = 1, ...rest } = source as Record<string, unknown>;
  const theta = inner ?? keys.rope_theta ?? 10000;
  if (typeof theta !== "number" || !(theta > 0)) {
    throw new PlinthError(
      `config.json: rope_theta: expected a positive number, got ${JSON.stringify(theta)}`,
      "correct it",
    );
  }
  const kind = rest.rope_type ?? type ?? "default";
  if (typeof kind !== "string" || !ropeTypes.includes(kind)) {
    throw new PlinthError(
      `config.json: ${key}: rope_type ${JSON.stringify(kind)} is not implemented`,
      `use a model whose rotary scaling is one of ${ropeTypes.join(", ")}`,
    );
  }
  if (share !== 1) {
    throw new PlinthError(`config.json: ${key}: partial_rotary_factor ${String(share)} is not implemented`, "use 1");
  }
  const scaling = ropeSchema.safeParse({ ...rest, rope_type: kind });
  if (!scaling.success) {
    const problems = scaling.error.issues.map((issue) => `${[key, ...issue.path].join(".")}: ${issue.message}`);
    throw new PlinthError(`config.json: ${problems.join("; ")}`, "correct config.json");
  }
  return { theta, scaling: scaling.data };
}

/**
 * Angle per position of each rotated pair, [K/2] (Su et al. 2021): theta^(-2i/K), scaled for longer contexts: `linear`
 * divides all (Chen et al. 2023); `llama3` divides the long wavelengths, keeps the short ones and blends between them
 * (Llama 3.1). Computed in float32 steps, as the reference does.
 */
export function ropeFrequencies(scaling: RopeScaling, theta: number, headDim: number): Float32Array {
  const f = Math.fround;
  const frequencies = Float32Array.from({ length: headDim / 2 }, (_, i) => f(1 / f(theta ** f((2 * i) / headDim))));
  switch (scaling.rope_type) {
    case "default":
      return frequencies;
    case "linear":
      return frequencies.map((frequency) => frequency / scaling.factor);
    case "llama3": {
      const context = scaling.original_max_position_embeddings;
      const longest = context / scaling.low_freq_factor;
      const shortest = context / scaling.high_freq_factor;
      return frequencies.map((frequency) => {
        const wavelength = f((2 * Math.PI) / frequency);
        if (wavelength > longest) return frequency / scaling.factor;
        if (wavelength < shortest) return frequency;
        const share = scaling.high_freq_factor - scaling.low_freq_factor;
        const smooth = f(f(f(context / wavelength) - scaling.low_freq_factor) / share);
        return f(f(f(1 - smooth) * f(frequency / scaling.factor)) + f(smooth * frequency));
      });
    }
  }
}
