import type { DType, HostArray, HostArrays } from "./dtype.ts";

const floatView = new Float32Array(1);
const bitsView = new Uint32Array(floatView.buffer);

/** The value of a bfloat16 bit pattern. Exact. */
export function bfloat16ToNumber(bits: number): number {
  bitsView[0] = bits << 16;
  return floatView[0] as number;
}

/** Bits of the bfloat16 nearest to the float32 nearest to `value`; ties to even, as the native kernels round. */
export function numberToBfloat16(value: number): number {
  floatView[0] = value;
  const bits = bitsView[0] as number;
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff; // keep NaN quiet, never round it to infinity
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The value of an IEEE 754 binary16 bit pattern. Exact. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Bits of the binary16 nearest to the float32 nearest to `value`; ties to even; too large becomes infinity. */
export function numberToFloat16(value: number): number {
  floatView[0] = value;
  const bits = bitsView[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and more round to infinity
  if (magnitude < 0x38800000) {
    // Subnormal: units of 2^-24. |value| * 2^24 is exact in a double and below 1024.
    return sign | roundHalfEven(Math.abs(floatView[0] as number) * 2 ** 24);
  }
  const rebased = magnitude - 0x38000000;
  return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
}

function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}

/** Values of a host array as doubles (bool as 0/1). Exact for every dtype. */
export function decodeFloat64(dtype: DType, data: HostArray): Float64Array {
  if (dtype === "bfloat16") return Float64Array.from(data, bfloat16ToNumber);
  if (dtype === "float16") return Float64Array.from(data, float16ToNumber);
  return Float64Array.from(data);
}

/** Values of a host array as float32: the array itself when it already is. Exact for every dtype but large int32. */
export function decodeFloat32(dtype: DType, data: HostArray): Float32Array {
  if (dtype === "float32") return data as Float32Array;
  if (dtype === "bfloat16") {
    const out = new Float32Array(data.length);
    const outBits = new Uint32Array(out.buffer);
    for (let i = 0; i < out.length; i++) outBits[i] = (data[i] as number) << 16;
    return out;
  }
  if (dtype === "float16") return Float32Array.from(data, float16ToNumber);
  return Float32Array.from(data);
}

/** Numbers rounded to a dtype (floats to nearest even, int32 towards zero, bool as "not zero"), in new host memory. */
export function encodeHost<D extends DType>(dtype: D, values: ArrayLike<number>): HostArrays[D];
export function encodeHost(dtype: DType, values: ArrayLike<number>): HostArray {
  switch (dtype) {
    case "float32":
      return Float32Array.from(values);
    case "int32":
      return Int32Array.from(values);
    case "bfloat16":
      return Uint16Array.from(values, numberToBfloat16);
    case "float16":
      return Uint16Array.from(values, numberToFloat16);
    case "bool":
      return Uint8Array.from(values, (x) => (x === 0 ? 0 : 1));
  }
}
