import { decodeFloat64 } from "../../src/engine/index.ts";

/** The float16 at a byte offset. */
export function float16Value(bytes: Uint8Array, at: number): number {
  return decodeFloat64(
    "float16",
    Uint16Array.of((bytes[at] as number) | ((bytes[at + 1] as number) << 8)),
  )[0] as number;
}

/** Element i of a block of Q4_0, as ggml reads it. */
export function quantizedValue(bytes: Uint8Array, block: number, i: number): number {
  const byte = bytes[block * 18 + 2 + (i % 16)] as number;
  return float16Value(bytes, block * 18) * ((i < 16 ? byte & 15 : byte >> 4) - 8);
}
