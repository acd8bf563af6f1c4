import { PlinthError } from "../../base/index.ts";
import { allocateBytes } from "../host-info.ts";
import { bfloat16ToNumber } from "../ir/convert.ts";
import { nf4Bfloat16, nf4ScaleValues } from "./nf4.ts";

/** Element of a quantised weight: a code of 4 bits (NormalFloat or integer) or 8, times the scale of its group. */
export type QuantizedFormat = "nf4" | "int4" | "int8";
export const quantizedFormats: readonly QuantizedFormat[] = ["nf4", "int4", "int8"];

/** What fixes where everything lies in the packed words of a weight W[outSize, inSize]. */
export interface QuantizedLayout {
  readonly format: QuantizedFormat;
  /** Successive weights of a row that share a scale; 32, 64, 96, ... The last group of a row may be shorter. */
  readonly groupSize: number;
  readonly outSize: number;
  readonly inSize: number;
}

/** Rows of W side by side in a panel: the lanes of the kernels. */
export const panelRows = 64;
/** Scales of nf4 that share a maximum. */
export const scaleBlock = 256;

/** Sizes of the parts, in words of 32 bits. `native/kernels/quantized_weight.h` says how they lie. */
export interface Packing {
  readonly bits: number;
  readonly perWord: number;
  readonly groups: number;
  readonly panels: number;
  readonly scaleWords: number;
  readonly panelWords: number;
  /** Where nf4's offset, scale values and maxima begin. */
  readonly tail: number;
  readonly words: number;
}

/** Throws PlinthError at a group size that no kernel has. */
export function packingOf({ format, groupSize, outSize, inSize }: QuantizedLayout): Packing {
  if (!Number.isInteger(groupSize) || groupSize <= 0 || groupSize % 32 !== 0) {
    throw new PlinthError(`groupSize: expected a multiple of 32, got ${groupSize}`, "use 32, 64 or 128");
  }
  const bits = format === "int8" ? 8 : 4;
  const perWord = 32 / bits;
  const groups = Math.ceil(inSize / groupSize);
  const panels = Math.ceil(outSize / panelRows);
  const scaleWords = (groups * panelRows) / (format === "nf4" ? 4 : 2);
  const panelWords = scaleWords + ((groups * groupSize) / perWord) * panelRows;
  const tail = panels * panelWords;
  const tailWords = format === "nf4" ? 1 + 256 + Math.ceil((outSize * groups) / scaleBlock) : 0;
  return { bits, perWord, groups, panels, scaleWords, panelWords, tail, words: tail + tailWords };
}

/** The code that stands for 0. */
export function zeroCode(format: QuantizedFormat): number {
  return format === "nf4" ? 7 : format === "int4" ? 8 : 0;
}

/** Writes codes and scales into packed words. Rows beyond the last are left 0, terms beyond a row stand for 0. */
export class WeightWriter {
  readonly words: Int32Array;
  readonly #layout: QuantizedLayout;
  readonly #packing: Packing;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #floats: Float32Array;

  /** `allocate` gives the memory of the words, zeroed; default as the engine's kernels like it best. */
  constructor(layout: QuantizedLayout, allocate: (bytes: number) => ArrayBuffer = allocateBytes) {
    this.#layout = layout;
    this.#packing = packingOf(layout);
    this.words = new Int32Array(allocate(this.#packing.words * 4));
    this.#bytes = new Uint8Array(this.words.buffer);
    this.#halves = new Uint16Array(this.words.buffer);
    this.#floats = new Float32Array(this.words.buffer);
  }

  /** The codes of a row, 0 ... 2^bits - 1 (int8 as its two's complement). */
  row(n: number, codes: Uint8Array): void {
    const { bits, perWord, groups, panelWords, scaleWords } = this.#packing;
    const { groupSize, inSize, format } = this.#layout;
    const base = Math.floor(n / panelRows) * panelWords + scaleWords + (n % panelRows);
    const zero = zeroCode(format);
    for (let k = 0, at = base; k < groups * groupSize; k += perWord, at += panelRows) {
      let word = 0;
      for (let r = 0; r < perWord; r++) {
        const code = k + r < inSize ? (codes[k + r] as number) : zero;
        word |= code << ((r & 1) * 16 + (r >> 1) * bits);
      }
      this.words[at] = word;
    }
  }

  /** The scale of a group of a row: bfloat16 bits, or for nf4 the code of the scale. */
  scale(n: number, group: number, value: number): void {
    const { panelWords } = this.#packing;
    const start = Math.floor(n / panelRows) * panelWords;
    const at = group * panelRows + (n % panelRows);
    if (this.#layout.format === "nf4") this.#bytes[start * 4 + at] = value;
    else this.#halves[start * 2 + at] = value;
  }

  /** What all scales of nf4 share. */
  scaleBlocks(offset: number, maxima: Float32Array): void {
    const { tail } = this.#packing;
    this.#floats[tail] = offset;
    this.#floats.set(nf4ScaleValues, tail + 1);
    this.#floats.set(maxima, tail + 257);
  }
}

/**
 * W[outSize, inSize] as the kernels understand the words: bfloat16 value of the code times float32 scale; not rounded
 * further. `words` may be any array of 32-bit integers.
 */
export function unpackWeight(words: ArrayLike<number>, layout: QuantizedLayout): Float64Array {
  const { bits, perWord, groups, panelWords, scaleWords } = packingOf(layout);
  const { groupSize, outSize, inSize, format } = layout;
  const values = codeValues(format);
  const out = new Float64Array(outSize * inSize);
  for (let n = 0; n < outSize; n++) {
    const base = Math.floor(n / panelRows) * panelWords + scaleWords + (n % panelRows);
    for (let group = 0; group < groups; group++) {
      const scale = readScale(words, layout, n, group);
      for (let k = group * groupSize; k < Math.min(inSize, (group + 1) * groupSize); k++) {
        const r = k % perWord;
        const word = words[base + Math.floor(k / perWord) * panelRows] as number;
        const code = (word >>> ((r & 1) * 16 + (r >> 1) * bits)) & (2 ** bits - 1);
        out[n * inSize + k] = (values[code] as number) * scale;
      }
    }
  }
  return out;
}

/** The float32 scale of a group of a row. */
export function readScale(words: ArrayLike<number>, layout: QuantizedLayout, n: number, group: number): number {
  const { groups, panelWords, tail } = packingOf(layout);
  const start = Math.floor(n / panelRows) * panelWords;
  const at = group * panelRows + (n % panelRows);
  if (layout.format !== "nf4") {
    return bfloat16ToNumber(((words[start + (at >> 1)] as number) >>> ((at & 1) * 16)) & 0xffff);
  }
  const code = ((words[start + (at >> 2)] as number) >>> ((at & 3) * 8)) & 0xff;
  const value = floatOf(words[tail + 1 + code] as number);
  const maximum = floatOf(words[tail + 257 + Math.floor((n * groups + group) / scaleBlock)] as number);
  return Math.fround(Math.fround(value * maximum) + floatOf(words[tail] as number));
}

const bitsView = new Int32Array(1);
const floatView = new Float32Array(bitsView.buffer);
function floatOf(bits: number): number {
  bitsView[0] = bits;
  return floatView[0] as number;
}

/** What each code stands for, before its scale. */
export function codeValues(format: QuantizedFormat): Float64Array {
  if (format === "nf4") return nf4Bfloat16;
  if (format === "int4") return Float64Array.from({ length: 16 }, (_, code) => code - 8);
  return Float64Array.from({ length: 256 }, (_, code) => (code << 24) >> 24);
}
