import { join } from "node:path";
import { Tokenizer as NativeTokenizer } from "tokenizers";
import { PlinthError, sha256, writeFileAtomic, writeJsonAtomic } from "../base/index.ts";
import { type ChatMessage, type ChatOptions, ChatTemplate, type RenderedChat } from "./chat-template.ts";
import {
  type Encoded,
  encodeInWindows,
  encodeTexts,
  type NativePair,
  type TruncateOptions,
  type WindowOptions,
} from "./encoding.ts";
import { literalJson } from "./literal.ts";
import { StreamDecoder } from "./stream-decoder.ts";
import { tokenByteLengths, vocabulary } from "./token-bytes.ts";
import { readTokenizerFiles } from "./tokenizer-files.ts";
import { type TokenizerConfig, type TokenizerJson, tokenContent } from "./tokenizer-json.ts";
import { splitsAlike, WordEncoder } from "./words.ts";

export interface EncodeOptions {
  /** Adds what the tokenizer's post-processor adds, such as a BOS token. Default false. */
  readonly addSpecialTokens?: boolean;
  /**
   * Reads `<|endoftext|>` and the like in the text as ordinary characters, so that a document cannot forge a special
   * token, and adds none either. Default false, as in Hugging Face's library.
   */
  readonly literal?: boolean;
}

const maxBatchCharacters = 1 << 22;

/** Text to token ids and back: a `tokenizer.json` run by Hugging Face's tokenizers library. */
export class Tokenizer {
  readonly json: TokenizerJson;
  readonly config: TokenizerConfig;
  /** One more than the largest id. */
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  /** Ids of special tokens, by content. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** Identity of the vocabulary and rules: sha256 of the parsed tokenizer.json. */
  readonly hash: string;
  readonly #native: NativeTokenizer;
  #bare: NativeTokenizer | undefined;
  #literal: NativeTokenizer | undefined;
  #tokenBytes: Uint16Array | undefined;
  #characters: ReadonlySet<string> | undefined;
  #words: WordEncoder | undefined;
  /** Whether literal text is split into GPT-2's words and each of them encoded by itself. */
  readonly #wordwise: boolean;

  private constructor(json: TokenizerJson, config: TokenizerConfig, native: NativeTokenizer) {
    this.json = json;
    this.config = config;
    this.#native = native;
    let largest = -1;
    for (const [, id] of vocabulary(json)) largest = Math.max(largest, id);
    for (const { id } of json.added_tokens ?? []) largest = Math.max(largest, id);
    this.vocabSize = largest + 1;
    this.specialTokens = new Map((json.added_tokens ?? []).filter((t) => t.special).map((t) => [t.content, t.id]));
    this.bosId = this.#configured("bos_token");
    this.eosId = this.#configured("eos_token");
    this.padId = this.#configured("pad_token");
    this.#wordwise = isWordwise(json);
    this.hash = sha256(JSON.stringify({ ...json, truncation: null, padding: null }));
  }

  /** Loads a folder or a file; see readTokenizerFiles. Throws PlinthError naming what is missing or damaged. */
  static async load(path: string): Promise<Tokenizer> {
    const { json, config } = await readTokenizerFiles(path);
    return Tokenizer.fromJson(json, config, path);
  }

  /** `name` stands for the tokenizer in errors. */
  static fromJson(json: TokenizerJson, config: TokenizerConfig = {}, name = "tokenizer"): Tokenizer {
    return new Tokenizer(json, withTokensOfPostProcessor(json, config), createNative(json, name));
  }

  async encode(text: string, options: EncodeOptions = {}): Promise<Int32Array> {
    return (await this.encodeBatch([text], options))[0] as Int32Array;
  }

  /** Encodes many texts at once. Throws PlinthError when a text has a character that the vocabulary cannot express. */
  async encodeBatch(texts: readonly string[], options: EncodeOptions = {}): Promise<Int32Array[]> {
    const { addSpecialTokens = false, literal = false } = options;
    for (const text of texts) this.#checkCharacters(text, literal);
    const ids: Int32Array[] = [];
    for (let start = 0; start < texts.length; ) {
      let end = start;
      for (let size = 0; end < texts.length && size < maxBatchCharacters; end++) size += (texts[end] as string).length;
      const part = texts.slice(start, end);
      const encoded = literal
        ? await this.#encodeLiterally(part)
        : await encodeWith(this.#native, part, addSpecialTokens);
      for (const each of encoded) ids.push(Int32Array.from(each));
      start = end;
    }
    return ids;
  }

  async #encodeLiterally(texts: readonly string[]): Promise<(Int32Array | number[])[]> {
    const native = this.#literalNative();
    this.#words ??= new WordEncoder((words) => encodeWith(native, words, false));
    const byWord = texts.map((text) => this.#wordwise && splitsAlike(text));
    const fast = (await this.#words.encode(texts.filter((_, i) => byWord[i]))).values();
    const others = texts.filter((_, i) => !byWord[i]);
    const slow = (await encodeWith(native, others, false)).values();
    return byWord.map((isFast) => (isFast ? fast : slow).next().value as Int32Array | number[]);
  }

  /**
   * Encodes a text, or a pair of texts, with the type, span and word of each token. Adds no special tokens unless asked.
   * Throws PlinthError when `maxLength` has no room for the tokens that are added.
   */
  async encodeWithOffsets(
    text: string,
    options: { readonly pair?: string; readonly addSpecialTokens?: boolean } & TruncateOptions = {},
  ): Promise<Encoded> {
    const { pair, addSpecialTokens = false, ...rest } = options;
    for (const each of [text, pair]) if (each !== undefined) this.#checkCharacters(each, false);
    return encodeTexts(this.#pair, [text, pair], { addSpecialTokens, ...rest });
  }

  /** A pair as the model was trained to read it, with its special tokens: BERT's `[CLS] first [SEP] second [SEP]`. */
  async encodePair(first: string, second: string, options: TruncateOptions = {}): Promise<Encoded> {
    return this.encodeWithOffsets(first, { pair: second, addSpecialTokens: true, ...options });
  }

  /**
   * Pairs of the first text with all of the second, part by part: a question and a document longer than the model reads.
   * Throws PlinthError when the first text leaves no room.
   */
  async encodeWindows(first: string, second: string, options: WindowOptions): Promise<Encoded[]> {
    for (const each of [first, second]) this.#checkCharacters(each, false);
    return encodeInWindows(this.#pair, [first, second], options);
  }

  /** Throws PlinthError naming an id that is not in the vocabulary. `skipSpecialTokens` defaults to false. */
  async decode(ids: Iterable<number>, options: { skipSpecialTokens?: boolean } = {}): Promise<string> {
    const list = [...ids];
    this.checkIds(list);
    return this.#native.decode(list, options.skipSpecialTokens ?? false);
  }

  /** For text that arrives id by id. `prefix`: ids before it, so that the first piece keeps its leading space. */
  streamDecoder(options: { prefix?: Iterable<number>; skipSpecialTokens?: boolean } = {}): StreamDecoder {
    const skipSpecialTokens = options.skipSpecialTokens ?? true;
    return new StreamDecoder((ids) => this.decode(ids, { skipSpecialTokens }), options.prefix);
  }

  checkIds(ids: ArrayLike<number>): void {
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      if (Number.isInteger(id) && id >= 0 && id < this.vocabSize && this.#native.idToToken(id) !== null) continue;
      throw new PlinthError(
        `token id ${id} at position ${i} is not in the vocabulary of ${this.vocabSize} tokens`,
        "use the tokenizer that the model was trained with",
      );
    }
  }

  tokenToId(token: string): number | undefined {
    return this.#native.tokenToId(token) ?? undefined;
  }

  idToToken(id: number): string | undefined {
    return id >= 0 && id < this.vocabSize ? (this.#native.idToToken(id) ?? undefined) : undefined;
  }

  /** UTF-8 bytes of text that each id stands for; special tokens 0. Exact for byte-level vocabularies. */
  get tokenBytes(): Uint16Array {
    this.#tokenBytes ??= tokenByteLengths(this.json, this.vocabSize);
    return this.#tokenBytes;
  }

  /** Renders messages by the chat template and encodes them; see ChatTemplate. */
  async applyChatTemplate(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<RenderedChat> {
    return new ChatTemplate(this).apply(messages, options);
  }

  /** Writes `tokenizer.json` and `tokenizer_config.json`, which Hugging Face's libraries load. */
  async save(dir: string): Promise<void> {
    await writeFileAtomic(join(dir, "tokenizer.json"), JSON.stringify(this.json, undefined, 1));
    await writeJsonAtomic(join(dir, "tokenizer_config.json"), {
      tokenizer_class: "PreTrainedTokenizerFast",
      ...this.config,
    });
  }

  #configured(name: "bos_token" | "eos_token" | "pad_token"): number | undefined {
    const token = tokenContent(this.config[name]);
    return token === undefined ? undefined : this.tokenToId(token);
  }

  get #pair(): NativePair {
    const bare = () => (this.#bare ??= createNative({ ...this.json, post_processor: null }, "tokenizer"));
    return { whole: this.#native, bare };
  }

  #literalNative(): NativeTokenizer {
    this.#literal ??= createNative(literalJson(this.json), "tokenizer");
    return this.#literal;
  }

  /** A character vocabulary without an unknown token would drop characters without a word. */
  #checkCharacters(text: string, literal: boolean): void {
    const { type, vocab, unk_token, byte_fallback } = this.json.model;
    if (type !== "BPE" || (unk_token ?? null) !== null || byte_fallback === true) return;
    if ((this.json.pre_tokenizer ?? null) !== null || (this.json.normalizer ?? null) !== null) return;
    this.#characters ??= new Set(Object.keys(vocab).filter((token) => [...token].length === 1));
    let plain = text;
    if (!literal) for (const token of this.specialTokens.keys()) plain = plain.replaceAll(token, "");
    for (const character of plain) {
      if (this.#characters.has(character)) continue;
      throw new PlinthError(
        `the character ${JSON.stringify(character)} is not in the vocabulary of ${this.vocabSize} characters`,
        "remove it from the text, or train the tokenizer on text that has it",
      );
    }
  }
}

async function encodeWith(
  native: NativeTokenizer,
  texts: readonly string[],
  addSpecialTokens: boolean,
): Promise<number[][]> {
  const encodings = await native.encodeBatch([...texts], { addSpecialTokens });
  return encodings.map((encoding) => encoding.getIds());
}

function isWordwise({ model, pre_tokenizer, normalizer, added_tokens }: TokenizerJson): boolean {
  const words = (pre_tokenizer ?? {}) as { type?: string; add_prefix_space?: boolean; use_regex?: boolean };
  return (
    model.type === "BPE" &&
    (model.dropout ?? null) === null &&
    words.type === "ByteLevel" &&
    words.add_prefix_space === false &&
    words.use_regex === true &&
    (normalizer ?? null) === null &&
    (added_tokens ?? []).every((token) => token.special)
  );
}

function createNative(json: TokenizerJson, name: string): NativeTokenizer {
  try {
    const native = NativeTokenizer.fromString(JSON.stringify(json));
    native.disableTruncation();
    native.disablePadding();
    return native;
  } catch (error) {
    throw new PlinthError(
      `${name}: not a tokenizer that the tokenizers library reads (${(error as Error).message})`,
      "save it again",
    );
  }
}

/** Without a config, the usual names of the end and beginning of text are taken when they are special tokens. */
function withTokensOfPostProcessor(json: TokenizerJson, config: TokenizerConfig): TokenizerConfig {
  const specials = new Set((json.added_tokens ?? []).filter((token) => token.special).map((token) => token.content));
  const usual = (names: readonly string[]) => names.find((name) => specials.has(name));
  const eos = config.eos_token ?? usual(["<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "[SEP]"]);
  const bos = config.bos_token ?? usual(["<s>", "<|begin_of_text|>", "<bos>", "[CLS]"]);
  return {
    ...config,
    ...(eos === undefined ? {} : { eos_token: eos }),
    ...(bos === undefined ? {} : { bos_token: bos }),
  };
}
