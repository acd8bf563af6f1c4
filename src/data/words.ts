/**
 * GPT-2's split of text into words; `\s` spelled as Unicode's White_Space, which is what the Rust library means by it.
 * Joined, the matches are the text.
 */
export const gpt2Words =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/**
 * A character whose class (letter, number, white space, other) could differ between versions of Unicode, because it lies
 * outside scripts that are fully assigned.
 */
const unsettled =
  /[^\0-\u0377\u0400-\u052f\u1e00-\u1eff\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u3000-\u3029\u3041-\u3096\u30a0-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff01-\uffbe\u{1f300}-\u{1faff}]/u;

/** Whether this engine and the tokenizers library are sure to split the text alike. */
export function splitsAlike(text: string): boolean {
  return !unsettled.test(text);
}

/** A copy that does not keep the text alive that the word was cut from, as V8's slices do. */
export function detached(word: string): string {
  return word.length < 13 ? word : Buffer.from(word, "utf16le").toString("utf16le");
}

const maxCachedWords = 2 ** 20;

type EncodeWords = (words: readonly string[]) => Promise<readonly (readonly number[])[]>;

/**
 * Encodes texts word by word and remembers the words: text repeats itself, so that this is several times faster than
 * encoding each text from the start. For tokenizers whose words are GPT-2's and are encoded independently.
 */
export class WordEncoder {
  readonly #encodeWords: EncodeWords;
  readonly #indexOf = new Map<string, number>();
  readonly #ids: (readonly number[])[] = [];
  #turn: Promise<unknown> = Promise.resolve();

  constructor(encodeWords: EncodeWords) {
    this.#encodeWords = encodeWords;
  }

  /** One call at a time works on the memory; others wait their turn. */
  encode(texts: readonly string[]): Promise<Int32Array[]> {
    const result = this.#turn.then(() => this.#run(texts));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #run(texts: readonly string[]): Promise<Int32Array[]> {
    if (this.#ids.length > maxCachedWords) {
      this.#indexOf.clear();
      this.#ids.length = 0;
    }
    const known = this.#ids.length;
    const fresh: string[] = [];
    const split = texts.map((text) => {
      const words: number[] = [];
      for (const [match] of text.matchAll(gpt2Words)) {
        let index = this.#indexOf.get(match);
        if (index === undefined) {
          const word = detached(match);
          index = known + fresh.push(word) - 1;
          this.#indexOf.set(word, index);
        }
        words.push(index);
      }
      return words;
    });
    try {
      for (const ids of await this.#encodeWords(fresh)) this.#ids.push(ids);
    } catch (error) {
      this.#indexOf.clear(); // it names words without ids
      this.#ids.length = 0;
      throw error;
    }
    return split.map((words) => this.#join(words));
  }

  #join(words: readonly number[]): Int32Array {
    let length = 0;
    for (const word of words) length += (this.#ids[word] as readonly number[]).length;
    const joined = new Int32Array(length);
    let at = 0;
    for (const word of words) for (const id of this.#ids[word] as readonly number[]) joined[at++] = id;
    return joined;
  }
}
