import { PlinthError } from "../base/index.ts";

/** Token sequences of documents, in which every document begins anew. */
export type Documents = AsyncIterable<ArrayLike<number>> | Iterable<ArrayLike<number>>;

export interface NgramOptions {
  /** Tokens of the longest n-gram; default 5. */
  readonly order?: number | undefined;
  readonly vocabSize: number;
  /** Put before every document, so that first tokens have a context; default a token of its own, outside the vocabulary. */
  readonly bosId?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What follows a context: distinct continuations, how often all of them, and how many have each of the counts 1, 2, 3+. */
interface Context {
  total: number;
  readonly kinds: [one: number, two: number, more: number];
}

/**
 * An n-gram model by interpolated modified Kneser-Ney smoothing (Chen & Goodman 1999, section 3; Kneser & Ney 1995): counts
 * of the highest order as they are, of lower orders the number of distinct tokens before them; three discounts per order,
 * from the counts of counts; the unigrams are interpolated with the uniform distribution, so no token is impossible.
 */
export class NgramModel {
  readonly order: number;
  readonly #vocabSize: number;
  readonly #bos: number;
  /** Per order n - 1: n-gram -> (continuation) count. */
  readonly #counts: Map<string, number>[] = [];
  readonly #contexts: Map<string, Context>[] = [];
  readonly #discounts: (readonly [number, number, number])[] = [];

  private constructor({ order = 5, vocabSize, bosId }: NgramOptions) {
    this.order = order;
    this.#vocabSize = vocabSize;
    this.#bos = bosId ?? vocabSize;
  }

  /** Counts the n-grams of documents. Throws PlinthError for an order below 1 or documents without a token. */
  static async train(documents: Documents, options: NgramOptions): Promise<NgramModel> {
    const { order = 5, signal } = options;
    if (!Number.isInteger(order) || order < 1 || order > 9) {
      throw new PlinthError(`n-gram model: order ${order}`, "give a whole number from 1 to 9");
    }
    if (options.vocabSize > 0xffff) {
      throw new PlinthError(
        `n-gram model: a vocabulary of ${options.vocabSize} tokens, and it holds ${0xffff}`,
        "use a smaller tokenizer",
      );
    }
    const model = new NgramModel(options);
    const highest = new Map<string, number>();
    for await (const document of documents) {
      signal?.throwIfAborted();
      const ids = model.#begin(document);
      for (let end = model.order - 1; end < ids.length; end++) {
        const key = keyOf(ids, end - order + 1, end + 1);
        highest.set(key, (highest.get(key) ?? 0) + 1);
      }
    }
    if (highest.size === 0) throw new PlinthError("n-gram model: no tokens to count", "give a dataset with documents");
    model.#counts[order - 1] = highest;
    for (let n = order - 1; n >= 1; n--) {
      const lower = new Map<string, number>();
      for (const gram of (model.#counts[n] as Map<string, number>).keys()) {
        const rest = gram.slice(1);
        lower.set(rest, (lower.get(rest) ?? 0) + 1);
      }
      model.#counts[n - 1] = lower;
    }
    for (const [n, counts] of model.#counts.entries()) model.#finish(n, counts);
    return model;
  }

  /** n-grams of the highest order that were seen. */
  get size(): number {
    return this.#counts[this.order - 1]?.size ?? 0;
  }

  /** Natural logarithm of the probability of every token of a document, given those before it. */
  score(document: ArrayLike<number>): Float64Array {
    const ids = this.#begin(document);
    return Float64Array.from({ length: document.length }, (_, i) =>
      Math.log(this.#probability(ids, i + this.order - 1)),
    );
  }

  /** The probability of a token after a context, of which the last `order - 1` tokens count. */
  probability(context: ArrayLike<number>, token: number): number {
    const ids = this.#begin([...Array.from(context), token]);
    return this.#probability(ids, ids.length - 1);
  }

  #probability(ids: ArrayLike<number>, at: number): number {
    let probability = 1 / this.#vocabSize;
    for (let n = 1; n <= this.order; n++) {
      const start = at - n + 1;
      const context = this.#contexts[n - 1]?.get(keyOf(ids, start, at));
      // A context never seen says nothing; longer ones were not seen either.
      if (context === undefined) break;
      const discounts = this.#discounts[n - 1] as readonly [number, number, number];
      const count = this.#counts[n - 1]?.get(keyOf(ids, start, at + 1)) ?? 0;
      const [one, two, more] = context.kinds;
      const left = (discounts[0] * one + discounts[1] * two + discounts[2] * more) / context.total;
      const own = count === 0 ? 0 : (count - (discounts[Math.min(count, 3) - 1] as number)) / context.total;
      probability = own + left * probability;
    }
    return probability;
  }

  /** The document after `order - 1` tokens of beginning. */
  #begin(document: ArrayLike<number>): Int32Array {
    const ids = new Int32Array(document.length + this.order - 1).fill(this.#bos, 0, this.order - 1);
    ids.set(document, this.order - 1);
    return ids;
  }

  #finish(n: number, counts: ReadonlyMap<string, number>): void {
    const contexts = new Map<string, Context>();
    const countsOfCounts: [number, number, number, number] = [0, 0, 0, 0];
    for (const [gram, count] of counts) {
      const key = gram.slice(0, -1);
      let context = contexts.get(key);
      if (context === undefined) {
        context = { total: 0, kinds: [0, 0, 0] };
        contexts.set(key, context);
      }
      context.total += count;
      const kind = (Math.min(count, 3) - 1) as 0 | 1 | 2;
      context.kinds[kind]++;
      if (count <= 4) countsOfCounts[(count - 1) as 0 | 1 | 2 | 3]++;
    }
    this.#contexts[n] = contexts;
    this.#discounts[n] = discountsOf(countsOfCounts);
  }
}

/** Chen & Goodman 1999, eq. 26; where counts of counts are missing, as in tiny data, 0.5, 1 and 1.5. */
function discountsOf([n1, n2, n3, n4]: readonly [number, number, number, number]): readonly [number, number, number] {
  const y = n1 / (n1 + 2 * n2);
  const found = [1 - 2 * y * (n2 / n1), 2 - 3 * y * (n3 / n2), 3 - 4 * y * (n4 / n3)] as const;
  return found.map((value, i) => (value > 0 && value < i + 1 ? value : (i + 1) / 2)) as unknown as [
    number,
    number,
    number,
  ];
}

/** Tokens as 16-bit characters of a string, the fastest key there is. */
function keyOf(ids: ArrayLike<number>, start: number, end: number): string {
  let key = "";
  for (let i = start; i < end; i++) key += String.fromCharCode(ids[i] as number);
  return key;
}
