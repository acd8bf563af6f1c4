import { PlinthError } from "../base/index.ts";

/** Four 32-bit words. */
export type Words4 = readonly [number, number, number, number];
/** A Philox key: two 32-bit words, signed or unsigned. */
export type PhiloxKey = readonly [number, number];

/** High and low words of an unsigned 32x32-bit product, without BigInt. */
function multiplyWide(a: number, b: number): [high: number, low: number] {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const carry = (middle & 0xffff) + a0 * b1;
  const high = a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000);
  return [high >>> 0, Math.imul(a, b) >>> 0];
}

/** Philox 4x32-10 (Salmon et al. 2011): four random unsigned 32-bit words from a counter and a key. */
export function philox4x32(counter: Words4, key: PhiloxKey): Words4 {
  let [c0, c1, c2, c3] = counter.map((c) => c >>> 0) as [number, number, number, number];
  let k0 = key[0] >>> 0;
  let k1 = key[1] >>> 0;
  for (let round = 0; round < 10; round++) {
    const [h0, l0] = multiplyWide(0xd2511f53, c0);
    const [h1, l1] = multiplyWide(0xcd9e8d57, c2);
    c0 = (h1 ^ c1 ^ k0) >>> 0;
    c1 = l1;
    c2 = (h0 ^ c3 ^ k1) >>> 0;
    c3 = l0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** `count` words of a stream: what `randomBits` gives, as unsigned numbers. */
export function philoxWords(key: PhiloxKey, stream: number, count: number): Uint32Array {
  const out = new Uint32Array(count);
  for (let i = 0; i < count; i += 4) out.set(philox4x32([i / 4, 0, stream, 0], key).slice(0, count - i), i);
  return out;
}

/** The key `foldKey(key, n)` gives on the device: a key of its own for each n. */
export function foldHostKey(key: PhiloxKey, n: number): [number, number] {
  const [a, b] = philox4x32([n, 0, 0, 1], key);
  return [a | 0, b | 0];
}

/** Everything a {@link HostRandom} is: plain numbers, for a checkpoint. */
export interface HostRandomState {
  readonly key: readonly [number, number];
  /** Words drawn so far. */
  readonly counter: number;
}

/**
 * Random numbers on the host: the generator of `randomBits` (stream 0), read one word after another. Two instances with
 * the same state continue alike on every machine.
 */
export class HostRandom {
  readonly #key: PhiloxKey;
  #counter: number;
  #block: Words4 = [0, 0, 0, 0];
  #blockIndex = -1;

  /** From a seed (any integer below 2^53), or from a state saved before. */
  constructor(seed: number | HostRandomState) {
    if (typeof seed === "number") {
      if (!Number.isSafeInteger(seed)) throw new PlinthError(`seed: expected an integer, got ${seed}`, "use e.g. 0");
      this.#key = [seed | 0, Math.floor(seed / 2 ** 32) | 0];
      this.#counter = 0;
    } else {
      this.#key = [seed.key[0], seed.key[1]];
      this.#counter = seed.counter;
    }
  }

  state(): HostRandomState {
    return { key: [this.#key[0], this.#key[1]], counter: this.#counter };
  }

  /** An unsigned 32-bit word. */
  word(): number {
    const index = Math.floor(this.#counter / 4);
    if (index !== this.#blockIndex) {
      // Blocks beyond 2^32 carry into the second counter word, which the device never uses.
      this.#block = philox4x32([index % 2 ** 32, Math.floor(index / 2 ** 32), 0, 0], this.#key);
      this.#blockIndex = index;
    }
    return this.#block[this.#counter++ % 4] as number;
  }

  /** A float32 value in [0, 1), as `randomUniform` makes it. */
  uniform(): number {
    return (this.word() >>> 8) * 2 ** -24;
  }

  /** A standard normal value (Box & Muller 1958); draws two words. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** An integer in [0, n), without bias; 1 <= n <= 2^32. */
  int(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) throw new RangeError(`int: expected 1 <= n <= 2^32, got ${n}`);
    const limit = 2 ** 32 - (2 ** 32 % n);
    for (;;) {
      const word = this.word();
      if (word < limit) return word % n;
    }
  }

  /** Permutes in place (Fisher & Yates) and returns the same array. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }
}

/**
 * Fills an array with normal values of mean 0: pairs of words of `new HostRandom(seed)`, both results of each pair used
 * (Box & Muller 1958). Initial weights come by the hundred million, so nothing is allocated, and logarithm, sine and
 * cosine come from tables: exact to about 1e-16, they round to the same float32 as the language's own, but for one value in
 * some ten million that lies between two.
 */
export function fillNormal(out: Float32Array, { seed, std }: { seed: number; std: number }): void {
  const { key } = new HostRandom(seed).state();
  const words = new Int32Array(4);
  const { coarseSin, coarseCos, fineSin, fineCos } = turns();
  for (let i = 0, block = 0; i < out.length; block++) {
    philoxBlock(block, key[0], key[1], words);
    for (let pair = 0; pair < 4 && i < out.length; pair += 2) {
      const radius = std * Math.sqrt(-2 * logOfRest((words[pair] as number) >>> 8));
      const turn = (words[pair + 1] as number) >>> 8;
      const [coarse, fine] = [turn >>> halfBits, turn & (half - 1)];
      const [s, c] = [coarseSin[coarse] as number, coarseCos[coarse] as number];
      const [t, d] = [fineSin[fine] as number, fineCos[fine] as number];
      out[i++] = radius * (c * d - s * t);
      if (i < out.length) out[i++] = radius * (s * d + c * t);
    }
  }
}

/** 24-bit numbers are looked up by halves. */
const halfBits = 12;
const half = 1 << halfBits;
const table = (f: (i: number) => number): Float64Array => Float64Array.from({ length: half }, (_, i) => f(i));
const once = <T>(make: () => T): (() => T) => {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
};

/** Sines and cosines of 2 pi i / 2^12 and of 2 pi i / 2^24. */
const turns = once(() => ({
  coarseSin: table((i) => Math.sin((2 * Math.PI * i) / half)),
  coarseCos: table((i) => Math.cos((2 * Math.PI * i) / half)),
  fineSin: table((i) => Math.sin((2 * Math.PI * i) / half ** 2)),
  fineCos: table((i) => Math.cos((2 * Math.PI * i) / half ** 2)),
}));

/** Logarithms and reciprocals of the middles of 2^12 intervals between 1 and 2. */
const logs = once(() => ({
  logarithm: table((i) => Math.log1p((i + 0.5) / half)),
  reciprocal: table((i) => 1 / (1 + (i + 0.5) / half)),
}));

/** log(1 - k / 2^24) for 0 <= k < 2^24. */
function logOfRest(k: number): number {
  if (k < half) {
    const u = k * 2 ** -24;
    return -u * (1 + u * (1 / 2 + u * (1 / 3 + u * (1 / 4))));
  }
  const rest = 2 ** 24 - k;
  const exponent = 31 - Math.clz32(rest);
  // 24 bits: one, the 12 of the interval, and the rest.
  const mantissa = rest << (23 - exponent);
  const interval = (mantissa >>> 11) & (half - 1);
  const { logarithm, reciprocal } = logs();
  const off = ((mantissa & 0x7ff) - 0x400) * 2 ** -23 * (reciprocal[interval] as number);
  const near = off * (1 - off * (1 / 2 - off * (1 / 3 - off * (1 / 4))));
  return (exponent - 24) * Math.LN2 + ((logarithm[interval] as number) + near);
}

/** {@link philox4x32} of counter (block, 0, 0, 0) into `out`, in 32-bit arithmetic throughout. */
function philoxBlock(block: number, key0: number, key1: number, out: Int32Array): void {
  let c0 = block | 0;
  let c1 = Math.floor(block / 2 ** 32) | 0;
  let c2 = 0;
  let c3 = 0;
  let k0 = key0 | 0;
  let k1 = key1 | 0;
  for (let round = 0; round < 10; round++) {
    const h0 = highProduct(c0, 0xd251, 0x1f53);
    const h1 = highProduct(c2, 0xcd9e, 0x8d57);
    const l0 = Math.imul(c0, 0xd2511f53);
    const l1 = Math.imul(c2, 0xcd9e8d57);
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** High word of an unsigned product, the second factor in halves. No sum in it reaches 2^32. */
function highProduct(a: number, high: number, low: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const middle = (Math.imul(a1, low) + (Math.imul(a0, low) >>> 16)) | 0;
  const carry = (Math.imul(a0, high) + (middle & 0xffff)) | 0;
  return (Math.imul(a1, high) + (middle >>> 16) + (carry >>> 16)) | 0;
}
