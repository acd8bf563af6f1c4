import { PlinthError } from "../../base/index.ts";
import { bfloat16ToNumber, decodeFloat32, numberToBfloat16 } from "../ir/convert.ts";
import { isFloating } from "../ir/dtype.ts";
import { NdArray } from "../ir/nd-array.ts";
import { formatShape } from "../ir/shape.ts";
import {
  packingOf,
  type QuantizedFormat,
  type QuantizedLayout,
  scaleBlock,
  unpackWeight,
  WeightWriter,
} from "./layout.ts";
import { midpoints, nearestIndex, nf4ScaleValues, nf4Values } from "./nf4.ts";

/** A weight W[outSize, inSize] as codes and scales, packed once for the kernels (`quantized-matmul.ts`). */
export interface QuantizedWeight extends QuantizedLayout {
  /** int32[words]: panels of scales and codes, see `layout.ts`. */
  readonly words: NdArray;
}

export interface QuantizeOptions {
  readonly format: QuantizedFormat;
  /** Weights that share a scale, a multiple of 32; default 64. */
  readonly groupSize?: number | undefined;
}

/**
 * Quantises weight[out, in] of any float type.
 *
 * - `nf4`: the nearest NormalFloat value times the group's absolute maximum; the maxima, less their mean, are themselves
 *   codes of 8 bits in blocks of 256 (QLoRA's double quantisation; codes as bitsandbytes computes them).
 * - `int4`: -8 ... 7 times a bfloat16 scale, symmetric: the group's element of largest magnitude becomes -8.
 * - `int8`: -127 ... 127 times a bfloat16 scale.
 *
 * Throws PlinthError at other shapes and element types, and at weights that are not finite.
 */
export function quantizeWeight(weight: NdArray, options: QuantizeOptions): QuantizedWeight {
  const { format, groupSize = 64 } = options;
  if (weight.shape.length !== 2 || !isFloating(weight.dtype)) {
    throw new PlinthError(
      `quantizeWeight: expected a float matrix [out, in], got ${weight.dtype}${formatShape(weight.shape)}`,
      "quantise the weights of linear layers only",
    );
  }
  const [outSize, inSize] = weight.shape as [number, number];
  const layout: QuantizedLayout = { format, groupSize, outSize, inSize };
  const values = decodeFloat32(weight.dtype, weight.data);
  const writer = new WeightWriter(layout);
  if (format === "nf4") quantizeNf4(values, layout, writer);
  else quantizeIntegers(values, layout, writer);
  return { ...layout, words: new NdArray("int32", [writer.words.length], writer.words) };
}

/** The float32 weight[out, in] that a quantised one stands for. */
export function dequantizeWeight(weight: QuantizedWeight): NdArray {
  const values = Float32Array.from(unpackWeight(weight.words.data, weight));
  return NdArray.float32([weight.outSize, weight.inSize], values);
}

/** What quantising lost. */
export interface QuantizationError {
  /** Root of the mean squared difference. */
  readonly rms: number;
  /** The same relative to the root mean square of the weights. */
  readonly relative: number;
  /** Largest absolute difference. */
  readonly largest: number;
  /** Memory per weight, scales included. */
  readonly bitsPerWeight: number;
}

export function quantizationError(original: NdArray, quantized: QuantizedWeight): QuantizationError {
  const before = decodeFloat32(original.dtype, original.data);
  const after = unpackWeight(quantized.words.data, quantized);
  let [squares, power, largest] = [0, 0, 0];
  for (let i = 0; i < after.length; i++) {
    const x = before[i] as number;
    const difference = Math.abs(x - (after[i] as number));
    squares += difference * difference;
    power += x * x;
    largest = Math.max(largest, difference);
  }
  const count = Math.max(1, after.length);
  return {
    rms: Math.sqrt(squares / count),
    relative: power === 0 ? 0 : Math.sqrt(squares / power),
    largest,
    bitsPerWeight: (quantized.words.size * 32) / count,
  };
}

/** The element of largest magnitude of values[from, to), with its sign. */
function extreme(values: Float32Array, from: number, to: number): number {
  let found = 0;
  let poison = 0;
  for (let i = from; i < to; i++) {
    const value = values[i] as number;
    poison += value - value; // NaN from NaN and infinities
    if (Math.abs(value) > Math.abs(found)) found = value;
  }
  if (poison !== 0) {
    throw new PlinthError("quantizeWeight: the weights are not finite numbers", "use an undamaged checkpoint");
  }
  return found;
}

const nf4Bounds = midpoints(nf4Values);
const scaleBounds = midpoints(nf4ScaleValues);

function quantizeNf4(values: Float32Array, layout: QuantizedLayout, writer: WeightWriter): void {
  const { groupSize, outSize, inSize } = layout;
  const { groups } = packingOf(layout);
  const maxima = new Float32Array(outSize * groups);
  const codes = new Uint8Array(inSize);
  for (let n = 0; n < outSize; n++) {
    for (let group = 0; group < groups; group++) {
      const from = n * inSize + group * groupSize;
      const to = Math.min(from + groupSize, (n + 1) * inSize);
      const maximum = Math.abs(extreme(values, from, to));
      maxima[n * groups + group] = maximum;
      const inverse = maximum === 0 ? 0 : Math.fround(1 / maximum);
      for (let i = from; i < to; i++) {
        codes[i - n * inSize] = nearestIndex(nf4Bounds, Math.fround((values[i] as number) * inverse));
      }
    }
    writer.row(n, codes);
  }
  let total = 0;
  for (const maximum of maxima) total += maximum;
  const offset = Math.fround(total / Math.max(1, maxima.length));
  const blocks = new Float32Array(Math.ceil(maxima.length / scaleBlock));
  for (let block = 0; block < blocks.length; block++) {
    const from = block * scaleBlock;
    const rest = maxima.slice(from, from + scaleBlock).map((maximum) => maximum - offset);
    const largest = Math.abs(extreme(rest, 0, rest.length));
    const inverse = largest === 0 ? 0 : Math.fround(1 / largest);
    blocks[block] = largest;
    for (let i = 0; i < rest.length; i++) {
      const code = nearestIndex(scaleBounds, Math.fround((rest[i] as number) * inverse));
      writer.scale(Math.floor((from + i) / groups), (from + i) % groups, code);
    }
  }
  writer.scaleBlocks(offset, blocks);
}

function quantizeIntegers(values: Float32Array, layout: QuantizedLayout, writer: WeightWriter): void {
  const { groupSize, outSize, inSize, format } = layout;
  const { groups } = packingOf(layout);
  const codes = new Uint8Array(inSize);
  for (let n = 0; n < outSize; n++) {
    for (let group = 0; group < groups; group++) {
      const from = n * inSize + group * groupSize;
      const to = Math.min(from + groupSize, (n + 1) * inSize);
      const found = extreme(values, from, to);
      // Rounded before the codes are chosen, so that they fit the scale that is kept.
      const bits = numberToBfloat16(format === "int4" ? found / -8 : Math.abs(found) / 127);
      const scale = bfloat16ToNumber(bits);
      const inverse = scale === 0 ? 0 : 1 / scale;
      writer.scale(n, group, bits);
      for (let i = from; i < to; i++) {
        const level = Math.round((values[i] as number) * inverse);
        codes[i - n * inSize] =
          format === "int4" ? Math.min(7, Math.max(-8, level)) + 8 : Math.min(127, Math.max(-127, level)) & 255;
      }
    }
    writer.row(n, codes);
  }
}
