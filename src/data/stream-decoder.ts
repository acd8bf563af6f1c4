/** Turns token ids into text as they come, for streamed generation. */
export class StreamDecoder {
  readonly #decode: (ids: readonly number[]) => Promise<string>;
  /** Ids whose text has been emitted, kept as context: how a token reads can depend on the ones before it. */
  #context: number[];
  #contextText: string | undefined;
  #pending: number[] = [];
  #emitted = 0;

  constructor(decode: (ids: readonly number[]) => Promise<string>, prefix: Iterable<number> = []) {
    this.#decode = decode;
    this.#context = [...prefix].slice(-contextLength);
  }

  /**
   * Adds ids and returns the text that is now certain: an incomplete UTF-8 character is kept back until its last byte
   * has come. The pieces joined, `flush` included, are the decoding of all ids as the continuation of the prefix.
   */
  async push(...ids: readonly number[]): Promise<string> {
    this.#pending.push(...ids);
    return this.#emit(false);
  }

  /** What was kept back, with U+FFFD for bytes that never became a character. */
  async flush(): Promise<string> {
    return this.#emit(true);
  }

  async #emit(everything: boolean): Promise<string> {
    if (this.#pending.length === 0) return "";
    this.#contextText ??= this.#context.length === 0 ? "" : await this.#decode(this.#context);
    const whole = await this.#decode([...this.#context, ...this.#pending]);
    // An incomplete character at the end of the context (a prompt cut inside one) belongs to the prompt.
    const start = Math.min(stableLength(this.#contextText, 0), whole.length);
    const fresh = whole.slice(start);
    const stable = everything ? fresh.length : stableLength(fresh, this.#pending.length);
    const text = fresh.slice(this.#emitted, Math.max(stable, this.#emitted));
    this.#emitted += text.length;
    if (stable === fresh.length && fresh !== "") {
      this.#context = this.#pending.slice(-contextLength);
      this.#contextText = undefined;
      this.#pending = [];
      this.#emitted = 0;
    }
    return text;
  }
}

/** Enough ids to hold a character of four bytes and the space before it. */
const contextLength = 8;

/**
 * Length of the part of a decoding that further ids cannot change. U+FFFD at the end may be the start of a character:
 * the whole run while few ids are pending, its last one when more are than a character has bytes.
 */
function stableLength(text: string, pending: number): number {
  if (pending > contextLength) return text.endsWith("\uFFFD") ? text.length - 1 : text.length;
  return text.replace(/\uFFFD+$/, "").length;
}
