import { bfloat16ToNumber, numberToBfloat16 } from "../ir/convert.ts";

/**
 * The sixteen values of 4-bit NormalFloat: quantiles of a normal distribution, scaled to [-1, 1], with an exact 0
 * (Dettmers et al. 2023, "QLoRA", appendix E; the numbers are those of bitsandbytes).
 */
export const nf4Values: Float32Array = Float32Array.of(
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
);

/** The same as the products use them, rounded to bfloat16. */
export const nf4Bfloat16: Float64Array = Float64Array.from(nf4Values, (x) => bfloat16ToNumber(numberToBfloat16(x)));

/**
 * The 256 values that a scale's code stands for, ascending: bitsandbytes' "dynamic map" (Dettmers 2016): a sign, a power
 * of ten from 10^-6 to 1 in unary, and the rest of the bits as a linear fraction of [0.1, 1]; also 0 and 1.
 */
export const nf4ScaleValues: Float32Array = dynamicMap();

function dynamicMap(): Float32Array {
  const values = [0, 1];
  for (let exponent = 0; exponent < 7; exponent++) {
    const items = 2 ** exponent;
    const boundary = (i: number): number => linspace(0.1, 1, items + 1, i);
    for (let i = 0; i < items; i++) {
      const mean = Math.fround(Math.fround(boundary(i) + boundary(i + 1)) / 2);
      const value = Math.fround(Math.fround(10 ** (exponent - 6)) * mean);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}

/** Element i of PyTorch's float32 linspace: counted from the nearer end. */
function linspace(from: number, to: number, count: number, i: number): number {
  const [start, end] = [Math.fround(from), Math.fround(to)];
  const step = Math.fround(Math.fround(end - start) / (count - 1));
  return i < count / 2 ? Math.fround(start + step * i) : Math.fround(end - step * (count - 1 - i));
}

/** Midpoints between neighbours of ascending values, in float32. */
export function midpoints(values: Float32Array): Float32Array {
  return Float32Array.from(
    { length: values.length - 1 },
    (_, i) => ((values[i] as number) + (values[i + 1] as number)) / 2,
  );
}

/** How many of the ascending `bounds` lie below x: the index of the nearest value when they are midpoints. */
export function nearestIndex(bounds: Float32Array, x: number): number {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((bounds[middle] as number) < x) low = middle + 1;
    else high = middle;
  }
  return low;
}
