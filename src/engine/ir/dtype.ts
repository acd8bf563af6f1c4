/** Element types a tensor can have. bfloat16 and float16 are storage types: arithmetic accumulates in float32. */
export type DType = "float32" | "bfloat16" | "float16" | "int32" | "bool";

/** Host array types, one per element type: bfloat16 and float16 travel as their raw 16-bit patterns, bool as 0/1 bytes. */
export interface HostArrays {
  readonly float32: Float32Array;
  readonly bfloat16: Uint16Array;
  readonly float16: Uint16Array;
  readonly int32: Int32Array;
  readonly bool: Uint8Array;
}
export type HostArray = HostArrays[DType];

/** Bytes per element. */
export const dtypeBytes: Readonly<Record<DType, number>> = {
  float32: 4,
  bfloat16: 2,
  float16: 2,
  int32: 4,
  bool: 1,
};

/** Codes shared with the native runner (`native/tensor.h`, enum DType). */
export const dtypeCode: Readonly<Record<DType, number>> = {
  float32: 0,
  bfloat16: 1,
  float16: 2,
  int32: 3,
  bool: 4,
};

/** True for floats of 16 bits, which are stored but not computed with. */
export function isNarrow(dtype: DType): dtype is "bfloat16" | "float16" {
  return dtype === "bfloat16" || dtype === "float16";
}

/** True for the element types that carry gradients. */
export function isFloating(dtype: DType): boolean {
  return dtype === "float32" || dtype === "bfloat16" || dtype === "float16";
}
