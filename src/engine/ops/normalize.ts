import { formatShape, normalizeAxis, sizeOf } from "../ir/shape.ts";
import type { Tensor } from "../ir/tensor.ts";
import { add, div, mul, sub } from "./arithmetic.ts";
import { maximum } from "./binary.ts";
import { toFloat32 } from "./cast.ts";
import { layerNorm } from "./layer-norm.ts";
import { mean } from "./max.ts";
import { reshape } from "./reshape.ts";
import { scalar } from "./source.ts";
import { broadcastTo, sum } from "./sum.ts";
import { expectShape, fail } from "./support.ts";
import { rsqrt, sqrt, square } from "./unary.ts";

/** A value per channel, for x[N, C, ...]. */
function perChannel(t: Tensor, x: Tensor, op: string, what: string): Tensor {
  expectShape(t, x.shape.slice(1, 2), op, what);
  return reshape(toFloat32(t), [x.shape[1] as number, ...x.shape.slice(2).map(() => 1)]);
}

/**
 * Group normalisation (Wu & He 2018): x[N, C, ...] over each sample's groups of C / groups channels, then weight[C] and
 * bias[C]. Statistics and result in float32. `groups: C` is instance normalisation.
 */
export function groupNorm(x: Tensor, weight: Tensor, bias: Tensor, options: { groups: number; eps: number }): Tensor {
  const { groups, eps } = options;
  const [N, C] = x.shape as [number, number];
  if (x.rank < 2 || groups < 1 || C % groups !== 0) {
    fail("groupNorm", "x[N, C, ...] with groups dividing C", `${formatShape(x.shape)} and ${groups}`, "check groups");
  }
  const width = (C / groups) * sizeOf(x.shape.slice(2));
  const fill = (value: number): Tensor => broadcastTo(scalar(value), [width]);
  const normal = reshape(layerNorm(reshape(x, [N, groups, width]), fill(1), fill(0), { eps }), x.shape);
  return add(mul(normal, perChannel(weight, x, "groupNorm", "weight")), perChannel(bias, x, "groupNorm", "bias"));
}

export interface BatchNormInputs {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly mean: Tensor;
  readonly variance: Tensor;
}

/** Batch normalisation (Ioffe & Szegedy 2015) by given statistics: x[N, C, ...], everything else [C] -> x's shape. float32. */
export function batchNorm(x: Tensor, inputs: BatchNormInputs, options: { eps: number }): Tensor {
  const of = (name: keyof BatchNormInputs): Tensor => perChannel(inputs[name], x, "batchNorm", name);
  const scale = mul(of("weight"), rsqrt(add(of("variance"), options.eps)));
  return add(mul(sub(toFloat32(x), of("mean")), scale), of("bias"));
}

/**
 * Mean and variance[C] of x[N, C, ...] over all but the channels, in float32: what batchNorm uses in training. The variance
 * is the mean of squares (divided by the count, as normalisation wants it; running averages take count / (count - 1) of it).
 */
export function batchStatistics(x: Tensor): {
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly count: number;
} {
  if (x.rank < 2) fail("batchStatistics", "x[N, C, ...]", formatShape(x.shape), "reshape it");
  const axes = x.shape.flatMap((_, i) => (i === 1 ? [] : [i]));
  const mu = mean(x, { axes });
  const variance = mean(square(sub(toFloat32(x), perChannel(mu, x, "batchStatistics", "mean"))), { axes });
  return { mean: mu, variance, count: sizeOf(axes.map((axis) => x.shape[axis] as number)) };
}

/** x / max(|x|, eps) along an axis (default the last), |x| its Euclidean length. float32. */
export function l2Normalize(x: Tensor, options: { axis?: number; eps?: number } = {}): Tensor {
  const axes = [normalizeAxis(options.axis ?? -1, x.rank, "l2Normalize")];
  // The square root is taken of what is at least eps squared: its derivative at 0 is never asked for.
  const eps = options.eps ?? 1e-12;
  const length = sqrt(maximum(sum(square(toFloat32(x)), { axes, keepDims: true }), eps * eps));
  return div(x, length);
}
