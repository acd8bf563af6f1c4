import { concat, mul, reshape, rope, split, type Tensor } from "../../engine/index.ts";
import type { ModelConfig } from "../family.ts";
import { type CausalAttentionOptions, causalAttention } from "./attention.ts";
import { linear } from "./linear.ts";
import { inModule, type Module, moduleAt } from "./module.ts";
import type { ParameterList } from "./parameter-list.ts";

/** Rotary positions of the tokens at hand. */
export interface Rotation {
  /** int32[B,T] */
  readonly positions: Tensor;
  /** [K/2], or fewer where a part of each head is rotated: angle per position of each rotated pair. */
  readonly invFreq: Tensor;
  /** On the products of queries and keys; 1 but for YaRN. */
  readonly scoreFactor: number;
}

export interface RotaryAttentionOptions extends CausalAttentionOptions {
  readonly heads: Pick<ModelConfig, "numHeads" | "numKvHeads" | "headDim">;
  readonly rotation: Rotation;
  /** Normalises each head's queries by `q_norm` and keys by `k_norm`, before they are rotated (Dehghani et al. 2023). */
  readonly normalize?: ((x: Tensor, p: Module) => Tensor) | undefined;
}

/**
 * Causal self-attention with rotary positions, x[B,T,D] -> [B,T,D]: `q_proj`, `k_proj`, `v_proj` and `o_proj`, as Llama
 * and its siblings have it.
 */
export function rotaryAttention(x: Tensor, p: Module, options: RotaryAttentionOptions): Tensor {
  const { heads, rotation, normalize, scale, ...rest } = options;
  const { numHeads, numKvHeads, headDim } = heads;
  const [B, T] = x.shape as [number, number];
  const project = (name: string, count: number): Tensor =>
    reshape(linear(x, moduleAt(p, name)), [B, T, count, headDim]);
  const rotated = (x: Tensor, norm: string): Tensor => {
    const y = normalize === undefined ? x : inModule(p, norm, (p) => normalize(x, p));
    return rope(y, rotation.positions, rotation.invFreq);
  };
  const q = project("q_proj", numHeads);
  const k = project("k_proj", numKvHeads);
  const v = project("v_proj", numKvHeads);
  const y = causalAttention(rotated(q, "q_norm"), rotated(k, "k_norm"), v, {
    ...rest,
    scale: scale * rotation.scoreFactor,
  });
  return linear(reshape(y, [B, T, numHeads * headDim]), moduleAt(p, "o_proj"));
}

/**
 * x[B,T,H,K], of which the first channels are rotated, as many as `invFreq` has angles for, and the rest stay as they are.
 * YaRN's factor is on the rotated ones alone: its root with queries, its root with keys.
 */
export function rotatePart(x: Tensor, { positions, invFreq, scoreFactor }: Rotation): Tensor {
  const [width, K] = [2 * (invFreq.shape[0] as number), x.shape[3] as number];
  const turn = (x: Tensor): Tensor => {
    const y = rope(x, positions, invFreq);
    return scoreFactor === 1 ? y : mul(y, Math.sqrt(scoreFactor));
  };
  if (width === K) return turn(x);
  const [turning, still] = split(x, [width, K - width], { axis: 3 }) as [Tensor, Tensor];
  return concat([turn(turning), still], { axis: 3 });
}

/** Which of the parameters of {@link rotaryAttention} there are besides the four weights. */
export interface RotaryAttentionParameters {
  /** Biases of queries, keys and values; default false. */
  readonly bias?: boolean;
  /** A bias of the output; default as `bias`. */
  readonly outputBias?: boolean;
  /** `q_norm` and `k_norm`, and where their weights start. */
  readonly norms?: "ones" | "zeros";
}

/** The parameters that {@link rotaryAttention} reads. */
export function rotaryAttentionParameters(
  list: ParameterList,
  name: string,
  c: Pick<ModelConfig, "hiddenSize" | "numHeads" | "numKvHeads" | "headDim">,
  { bias = false, outputBias = bias, norms }: RotaryAttentionParameters = {},
): void {
  const { hiddenSize: D, headDim: K } = c;
  list.linear(`${name}.q_proj`, D, c.numHeads * K, { bias });
  list.linear(`${name}.k_proj`, D, c.numKvHeads * K, { bias });
  list.linear(`${name}.v_proj`, D, c.numKvHeads * K, { bias });
  list.linear(`${name}.o_proj`, c.numHeads * K, D, { bias: outputBias });
  if (norms === undefined) return;
  for (const norm of ["q_norm", "k_norm"]) list.rmsNorm(`${name}.${norm}`, K, { start: norms });
}
