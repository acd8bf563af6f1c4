import { z } from "zod";
import { PlinthError } from "../../base/index.ts";

/** Rotary position parameters as config.json has them, under `rope_scaling` or, lately, `rope_parameters`. */
const ropeSchema = z.discriminatedUnion("rope_type", [
  z.strictObject({ rope_type: z.literal("default") }),
  z.strictObject({ rope_type: z.literal("linear"), factor: z.number().min(1) }),
  z.strictObject({ rope_type: z.literal("dynamic"), factor: z.number().min(1) }),
  z.strictObject({
    rope_type: z.literal("yarn"),
    factor: z.number().min(1),
    original_max_position_embeddings: z.int().positive(),
    attention_factor: z.number().positive().nullish(),
    beta_fast: z.number().positive().nullish(),
    beta_slow: z.number().positive().nullish(),
    mscale: z.number().nullish(),
    mscale_all_dim: z.number().nullish(),
    truncate: z.boolean().optional(),
  }),
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
  readonly partial_rotary_factor?: number | undefined;
  /** What a scaling that does not say its original context takes for it. */
  readonly max_position_embeddings?: number | undefined;
}

/** Rotary positions of a layer: the base of the angles, and their scaling for longer contexts. */
export interface RotaryPositions {
  readonly theta: number;
  readonly scaling: RopeScaling;
  /** Share of a head's channels that are rotated, the first ones; all when absent. */
  readonly share?: number | undefined;
}

/**
 * Base and scaling of rotary positions. Older files have `rope_theta` and `rope_scaling` (with `type` for `rope_type`),
 * newer ones `rope_parameters` that holds both. `defaultShare` is of a family that may rotate a part of each head
 * (`partial_rotary_factor`). Throws PlinthError naming a kind of scaling that is not implemented.
 */
export function parseRope(
  keys: RopeKeys,
  { defaultTheta = 10000, defaultShare }: { defaultTheta?: number; defaultShare?: number } = {},
): RotaryPositions {
  const key = keys.rope_parameters === undefined || keys.rope_parameters === null ? "rope_scaling" : "rope_parameters";
  const source = keys[key] ?? {};
  if (typeof source !== "object" || Array.isArray(source)) {
    throw new PlinthError(
      `config.json: ${key}: expected an object, got ${JSON.stringify(source)}`,
      "correct config.json",
    );
  }
  const { rope_theta: inner, type, partial_rotary_factor: innerShare, ...rest } = source as Record<string, unknown>;
  const theta = inner ?? keys.rope_theta ?? defaultTheta;
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
  const share = innerShare ?? keys.partial_rotary_factor ?? defaultShare ?? 1;
  if (defaultShare === undefined && share !== 1) {
    throw new PlinthError(`config.json: ${key}: partial_rotary_factor ${String(share)} is not implemented`, "use 1");
  }
  if (typeof share !== "number" || !(share > 0 && share <= 1)) {
    throw new PlinthError(
      `config.json: partial_rotary_factor: expected a share of a head's channels, got ${JSON.stringify(share)}`,
      "use a number above 0 and at most 1",
    );
  }
  const context = kind === "yarn" || kind === "llama3" ? keys.max_position_embeddings : undefined;
  const original = context === undefined ? {} : { original_max_position_embeddings: context };
  const scaling = ropeSchema.safeParse({ ...original, ...rest, rope_type: kind });
  if (!scaling.success) {
    const problems = scaling.error.issues.map((issue) => `${[key, ...issue.path].join(".")}: ${issue.message}`);
    throw new PlinthError(`config.json: ${problems.join("; ")}`, "correct config.json");
  }
  return { theta, scaling: scaling.data, ...(defaultShare === undefined ? {} : { share }) };
}

/** The keys of config.json that {@link parseRope} reads. */
export function formatRope({ theta, scaling }: RotaryPositions) {
  return { rope_theta: theta, rope_scaling: scaling.rope_type === "default" ? null : scaling };
}

const f = Math.fround;

/**
 * Angle per position of each rotated pair, [width/2] (Su et al. 2021): theta^(-2i/K), scaled for longer contexts: `linear`
 * divides all (Chen et al. 2023); `llama3` divides the long wavelengths, keeps the short ones and blends between them
 * (Llama 3.1); `yarn` likewise, by rotations in the original context (Peng et al. 2023, 3.2); `dynamic` changes nothing
 * up to `max_position_embeddings`, which is as far as a model reads here. Computed in float32 steps, as the reference does.
 * `width`: how many channels of a head are rotated.
 */
export function ropeFrequencies(scaling: RopeScaling, theta: number, width: number): Float32Array {
  const wavelengths = Float32Array.from({ length: width / 2 }, (_, i) => theta ** f((2 * i) / width));
  const frequencies = wavelengths.map((wavelength) => 1 / wavelength);
  switch (scaling.rope_type) {
    case "default":
    case "dynamic":
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
    case "yarn": {
      const [low, high] = yarnRange(scaling, theta, width);
      return frequencies.map((frequency, i) => {
        const ramp = Math.min(Math.max(f(f(i - low) / f(high - low)), 0), 1);
        const kept = f(1 - ramp);
        const divided = f(1 / f(scaling.factor * (wavelengths[i] as number)));
        return f(f(divided * f(1 - kept)) + f(frequency * kept));
      });
    }
  }
}

/** Factor on the products of rotated queries and keys: YaRN's temperature (Peng et al. 2023, 3.4), 1 of other kinds. */
export function ropeScoreFactor(scaling: RopeScaling): number {
  if (scaling.rope_type !== "yarn") return 1;
  const { factor, attention_factor, mscale, mscale_all_dim } = scaling;
  const temperature = (scale = 1): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const both = mscale && mscale_all_dim ? temperature(mscale) / temperature(mscale_all_dim) : temperature();
  return (attention_factor ?? both) ** 2;
}

/** Pairs between which YaRN goes from the frequency itself to the divided one. */
function yarnRange(scaling: RopeScaling & { rope_type: "yarn" }, theta: number, width: number): [number, number] {
  const context = scaling.original_max_position_embeddings;
  const pairOf = (rotations: number): number =>
    (width * Math.log(context / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [pairOf(scaling.beta_fast || 32), pairOf(scaling.beta_slow || 1)];
  const [low, high] = scaling.truncate === false ? [first, last] : [Math.floor(first), Math.ceil(last)];
  const range: [number, number] = [Math.max(low, 0), Math.min(high, width - 1)];
  return range[0] === range[1] ? [range[0], range[1] + 0.001] : range;
}
