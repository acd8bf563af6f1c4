/** Candidates for pieces: substrings of the words, as places in `symbols`. */
export interface Seeds {
  readonly starts: Int32Array;
  readonly lengths: Uint8Array;
  /** How often each occurs in the texts. */
  readonly counts: Float64Array;
}

/** Words one after the other, each followed by {@link separator}. */
export interface WordText {
  readonly symbols: Int32Array;
  /** How often the word occurs that a place lies in. */
  readonly counts: Float64Array;
}

export interface SeedOptions {
  /** In symbols. */
  readonly maxLength: number;
  readonly most: number;
  readonly isAllowed: (symbols: Int32Array) => boolean;
}

/** No symbol of a word. */
export const separator = 0;

/**
 * Substrings of at least two symbols that occur at least twice and cannot be made longer without occurring less often (the
 * inner nodes of the suffix tree), and words that occur at least twice; the `most` of them with the largest product of
 * count and length, in the order of the suffixes. Source: Kudo 2018, 3.2 (seed vocabulary by an enhanced suffix array).
 */
export function seedPieces(text: WordText, options: SeedOptions): Seeds {
  const { maxLength, most, isAllowed } = options;
  const { symbols, counts } = text;
  const suffixes = sortSuffixes(symbols, maxLength);
  const starts: number[] = [];
  const lengths: number[] = [];
  const found: number[] = [];
  const emit = (start: number, length: number, count: number): void => {
    if (length < 2 || count < 2 || !isAllowed(symbols.subarray(start, start + length))) return;
    starts.push(start);
    lengths.push(length);
    found.push(count);
  };

  /** Nodes that are open: their length and the total count before their first suffix. */
  const open: { length: number; before: number }[] = [];
  let total = 0;
  let shared = 0;
  for (let i = 0; i < suffixes.length; i++) {
    const start = suffixes[i] as number;
    const next = i + 1 < suffixes.length ? commonLength(symbols, [start, suffixes[i + 1] as number], maxLength) : 0;
    const own = ownLength(symbols, start, maxLength + 1);
    // A whole end of a word that no other suffix shares.
    if (own <= maxLength && own > shared && own > next) emit(start, own, counts[start] as number);
    let before = total;
    total += counts[start] as number;
    for (let top = open.at(-1); top !== undefined && top.length > next; top = open.at(-1)) {
      emit(start, top.length, total - top.before);
      before = top.before;
      open.pop();
    }
    if (next > (open.at(-1)?.length ?? 0)) open.push({ length: next, before });
    shared = next;
  }
  const seeds = {
    starts: Int32Array.from(starts),
    lengths: Uint8Array.from(lengths),
    counts: Float64Array.from(found),
  };
  return seeds.starts.length <= most ? seeds : best(seeds, most);
}

function best({ starts, lengths, counts }: Seeds, most: number): Seeds {
  const score = (i: number) => (counts[i] as number) * (lengths[i] as number);
  const limit = Float64Array.from(starts, (_, i) => score(i)).sort()[starts.length - most] as number;
  let ties = most;
  for (let i = 0; i < starts.length; i++) if (score(i) > limit) ties--;
  const kept: number[] = [];
  for (let i = 0; i < starts.length; i++) {
    if (score(i) > limit || (score(i) === limit && ties-- > 0)) kept.push(i);
  }
  return {
    starts: Int32Array.from(kept, (i) => starts[i] as number),
    lengths: Uint8Array.from(kept, (i) => lengths[i] as number),
    counts: Float64Array.from(kept, (i) => counts[i] as number),
  };
}

/** Symbols up to the end of the word, `most` at most. */
function ownLength(symbols: Int32Array, start: number, most: number): number {
  let length = 0;
  while (length < most && symbols[start + length] !== separator) length++;
  return length;
}

function commonLength(symbols: Int32Array, [a, b]: readonly [number, number], most: number): number {
  let length = 0;
  while (length < most && symbols[a + length] !== separator && symbols[a + length] === symbols[b + length]) length++;
  return length;
}

/** Places of all symbols, ordered by what follows within the word, as far as `length` symbols. By prefix doubling. */
function sortSuffixes(symbols: Int32Array, length: number): Int32Array {
  const size = symbols.length;
  const left = new Int32Array(size + 1); // to the end of the word
  for (let i = size - 1; i >= 0; i--) left[i] = symbols[i] === separator ? 0 : (left[i + 1] as number) + 1;
  let rank = Int32Array.from(symbols);
  let order = Int32Array.from({ length: size }, (_, i) => i);
  let next: Int32Array<ArrayBuffer> = new Int32Array(size);
  const second = new Int32Array(size);
  let ranks = symbols.reduce((a, b) => Math.max(a, b), 0) + 1;
  let [from, to] = [order, next];
  const sortBy = (keys: Int32Array): void => {
    const places = new Int32Array(ranks + 1);
    for (let i = 0; i < size; i++) places[(keys[i] as number) + 1] = (places[(keys[i] as number) + 1] as number) + 1;
    for (let i = 0; i < ranks; i++) places[i + 1] = (places[i + 1] as number) + (places[i] as number);
    for (let i = 0; i < size; i++) {
      const key = keys[from[i] as number] as number;
      const at = places[key] as number;
      to[at] = from[i] as number;
      places[key] = at + 1;
    }
    [from, to] = [to, from];
  };
  sortBy(rank);
  for (let width = 1; width < length; width *= 2) {
    for (let i = 0; i < size; i++) second[i] = (left[i] as number) > width ? (rank[i + width] as number) : 0;
    sortBy(second);
    sortBy(rank);
    const fresh = new Int32Array(size);
    let current = 0;
    for (let i = 1; i < size; i++) {
      const [a, b] = [from[i - 1] as number, from[i] as number];
      if (rank[a] !== rank[b] || second[a] !== second[b]) current++;
      fresh[b] = current;
    }
    rank = fresh;
    ranks = current + 1;
  }
  order = from;
  next = order.filter((i) => symbols[i] !== separator);
  return next;
}
