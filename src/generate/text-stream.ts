import type { Tokenizer } from "../data/index.ts";

/** Bytes that are not whole characters decode to this. */
const replacement = "\ufffd";

/**
 * Turns ids into text as they come. A character whose bytes are spread over several tokens appears with the last of
 * them, and a word keeps its leading space although decoders strip the first: each piece is the difference between
 * decoding a short window with and without the new tokens.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  #ids: number[];
  /** The window is `ids[from..]`; text of `ids[from..done]` has been given out. */
  #from: number;
  #done: number;

  /** `context`: the ids before the text (the prompt); they set spaces right and are not given out. */
  constructor(tokenizer: Tokenizer, context: readonly number[] = []) {
    this.#tokenizer = tokenizer;
    this.#ids = context.slice(-8);
    this.#from = 0;
    this.#done = this.#ids.length;
  }

  /** Text that is complete with this token; empty while a character is not. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#rest();
    if (text === "" || text.endsWith(replacement)) return "";
    this.#advance();
    return text;
  }

  /** What is left when no more tokens come; incomplete characters as U+FFFD. */
  flush(): string {
    const text = this.#rest();
    this.#advance();
    return text;
  }

  #rest(): string {
    const before = trimEnd(this.#decode(this.#from, this.#done));
    return this.#decode(this.#from, this.#ids.length).slice(before.length);
  }

  #advance(): void {
    this.#ids = this.#ids.slice(this.#done);
    this.#from = 0;
    this.#done = this.#ids.length;
  }

  #decode(from: number, to: number): string {
    return to === from ? "" : this.#tokenizer.decode(this.#ids.slice(from, to));
  }
}

/** A context that ends within a character: the character belongs to what follows. */
function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && text[end - 1] === replacement) end--;
  return text.slice(0, end);
}
