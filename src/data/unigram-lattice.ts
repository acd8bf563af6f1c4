import { separator, type WordText } from "./unigram-seeds.ts";

/** Pieces as paths of symbols from the root 0, in one hash table. */
export class PieceTrie {
  #nodes = 1;
  #used = 0;
  #mask = 2 ** 16 - 1;
  #parents = new Int32Array(2 ** 16).fill(-1);
  #symbols = new Int32Array(2 ** 16);
  #children = new Int32Array(2 ** 16);
  /** The piece that ends at a node, or -1. */
  #pieces = new Int32Array(2 ** 16).fill(-1);

  add(symbols: Int32Array, piece: number): void {
    let node = 0;
    for (const symbol of symbols) {
      const slot = this.#slot(node, symbol);
      node = this.#parents[slot] === -1 ? this.#insert(slot, node, symbol) : (this.#children[slot] as number);
    }
    this.#pieces[node] = piece;
  }

  /** The node below, or -1. */
  child(node: number, symbol: number): number {
    const slot = this.#slot(node, symbol);
    return this.#parents[slot] === -1 ? -1 : (this.#children[slot] as number);
  }

  piece(node: number): number {
    return this.#pieces[node] as number;
  }

  #slot(node: number, symbol: number): number {
    let slot = (Math.imul(node, 0x9e3779b1) ^ Math.imul(symbol, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & this.#mask;
    while (this.#parents[slot] !== -1 && (this.#parents[slot] !== node || this.#symbols[slot] !== symbol))
      slot = (slot + 1) & this.#mask;
    return slot;
  }

  #insert(slot: number, parent: number, symbol: number): number {
    const node = this.#nodes++;
    this.#parents[slot] = parent;
    this.#symbols[slot] = symbol;
    this.#children[slot] = node;
    if (node >= this.#pieces.length) this.#pieces = grown(this.#pieces, -1);
    if (++this.#used * 2 > this.#mask) this.#rehash();
    return node;
  }

  #rehash(): void {
    const [parents, symbols, children] = [this.#parents, this.#symbols, this.#children];
    const size = 2 * parents.length;
    this.#mask = size - 1;
    this.#parents = new Int32Array(size).fill(-1);
    this.#symbols = new Int32Array(size);
    this.#children = new Int32Array(size);
    for (let i = 0; i < parents.length; i++) {
      if (parents[i] === -1) continue;
      const slot = this.#slot(parents[i] as number, symbols[i] as number);
      this.#parents[slot] = parents[i] as number;
      this.#symbols[slot] = symbols[i] as number;
      this.#children[slot] = children[i] as number;
    }
  }
}

function grown(array: Int32Array<ArrayBuffer>, fill: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * array.length).fill(fill, array.length);
  larger.set(array);
  return larger;
}

/**
 * All ways of splitting each word into pieces: for every word its edges (from, to, piece), ordered by `to`. Found once with
 * the trie; pieces that are dropped later are filtered out.
 */
export class Lattices {
  readonly counts: readonly number[];
  readonly #lengths: readonly number[];
  #firsts: Int32Array;
  #from: Int32Array;
  #to: Int32Array;
  #piece: Int32Array;

  /** Of words in `text`, each with its count. */
  constructor(text: WordText, trie: PieceTrie) {
    const { symbols } = text;
    const counts: number[] = [];
    const lengths: number[] = [];
    const firsts: number[] = [];
    let edges = { from: new Int32Array(1024), to: new Int32Array(1024), piece: new Int32Array(1024) };
    let size = 0;
    for (let start = 0; start < symbols.length; start++) {
      let end = start;
      while (symbols[end] !== separator) end++;
      firsts.push(size);
      counts.push(text.counts[start] as number);
      lengths.push(end - start);
      const byEnd: [from: number, piece: number][][] = Array.from({ length: end - start + 1 }, () => []);
      for (let at = start; at < end; at++) {
        for (let node = 0, to = at; to < end; ) {
          node = trie.child(node, symbols[to++] as number);
          if (node < 0) break;
          const piece = trie.piece(node);
          if (piece >= 0) byEnd[to - start]?.push([at - start, piece]);
        }
      }
      for (const [to, list] of byEnd.entries()) {
        for (const [from, piece] of list) {
          if (size === edges.from.length)
            edges = { from: grown(edges.from, 0), to: grown(edges.to, 0), piece: grown(edges.piece, 0) };
          edges.from[size] = from;
          edges.to[size] = to;
          edges.piece[size++] = piece;
        }
      }
      start = end;
    }
    firsts.push(size);
    this.counts = counts;
    this.#lengths = lengths;
    this.#firsts = Int32Array.from(firsts);
    this.#from = edges.from.slice(0, size);
    this.#to = edges.to.slice(0, size);
    this.#piece = edges.piece.slice(0, size);
  }

  get size(): number {
    return this.counts.length;
  }

  /**
   * Adds to `expected` how often each piece occurs in all splittings, weighted by their probability; gives the
   * log-likelihood in nats. `scores`: log-probabilities; -Infinity is a piece that is not there.
   */
  expect(scores: Float64Array, expected: Float64Array): number {
    const [firsts, from, to, piece] = [this.#firsts, this.#from, this.#to, this.#piece];
    const longest = this.#lengths.reduce((a, b) => Math.max(a, b), 0);
    const alpha = new Float64Array(longest + 1); // log-probability of all ways to a place
    const through = new Float64Array(longest + 1); // probability of passing it
    let shares = new Float64Array(1024); // of each edge among those that end where it does
    let likelihood = 0;
    for (let word = 0; word < this.size; word++) {
      const first = firsts[word] as number;
      const last = firsts[word + 1] as number;
      const length = this.#lengths[word] as number;
      if (last - first > shares.length) shares = new Float64Array(2 * (last - first));
      alpha.fill(Number.NEGATIVE_INFINITY, 1, length + 1);
      through.fill(0, 0, length);
      through[length] = 1;
      for (let i = first; i < last; ) {
        const place = to[i] as number;
        let most = Number.NEGATIVE_INFINITY;
        let end = i;
        for (; end < last && to[end] === place; end++) {
          const score = (alpha[from[end] as number] as number) + (scores[piece[end] as number] as number);
          shares[end - first] = score;
          if (score > most) most = score;
        }
        let sum = 0;
        for (let j = i; j < end; j++) {
          const share = Math.exp((shares[j - first] as number) - most);
          shares[j - first] = share;
          sum += share;
        }
        for (let j = i; j < end; j++) shares[j - first] = (shares[j - first] as number) / sum;
        alpha[place] = most + Math.log(sum);
        i = end;
      }
      const count = this.counts[word] as number;
      likelihood += count * (alpha[length] as number);
      for (let i = last - 1; i >= first; i--) {
        const posterior = (through[to[i] as number] as number) * (shares[i - first] as number);
        if (posterior === 0) continue;
        const id = piece[i] as number;
        expected[id] = (expected[id] as number) + count * posterior;
        through[from[i] as number] = (through[from[i] as number] as number) + posterior;
      }
    }
    return likelihood;
  }

  /** The pieces of the likeliest splitting of a word, last first; `except`: a piece not to be used. Empty when there is none. */
  bestPath(word: number, scores: Float64Array, except = -1): number[] {
    const [from, to, piece] = [this.#from, this.#to, this.#piece];
    const first = this.#firsts[word] as number;
    const last = this.#firsts[word + 1] as number;
    const length = this.#lengths[word] as number;
    const best = new Float64Array(length + 1).fill(Number.NEGATIVE_INFINITY, 1);
    const edge = new Int32Array(length + 1).fill(-1);
    for (let i = first; i < last; i++) {
      const id = piece[i] as number;
      if (id === except) continue;
      const score = (best[from[i] as number] as number) + (scores[id] as number);
      if (score > (best[to[i] as number] as number)) {
        best[to[i] as number] = score;
        edge[to[i] as number] = i;
      }
    }
    const path: number[] = [];
    for (let at = length; at > 0; ) {
      const i = edge[at] as number;
      if (i < 0) return [];
      path.push(piece[i] as number);
      at = from[i] as number;
    }
    return path;
  }

  /** Forgets the edges of pieces that are no longer there. */
  keep(isKept: (piece: number) => boolean): void {
    const firsts = new Int32Array(this.#firsts.length);
    let size = 0;
    for (let word = 0; word < this.size; word++) {
      firsts[word] = size;
      for (let i = this.#firsts[word] as number; i < (this.#firsts[word + 1] as number); i++) {
        if (!isKept(this.#piece[i] as number)) continue;
        this.#from[size] = this.#from[i] as number;
        this.#to[size] = this.#to[i] as number;
        this.#piece[size++] = this.#piece[i] as number;
      }
    }
    firsts[this.size] = size;
    this.#firsts = firsts;
    this.#from = this.#from.slice(0, size);
    this.#to = this.#to.slice(0, size);
    this.#piece = this.#piece.slice(0, size);
  }
}
