/** `tokenizer.json` in the format of Hugging Face's tokenizers library, as far as Plinth looks into it. */
export interface TokenizerJson {
  readonly added_tokens?: readonly AddedToken[];
  readonly normalizer?: unknown;
  readonly pre_tokenizer?: unknown;
  readonly post_processor?: unknown;
  readonly decoder?: unknown;
  readonly model: {
    readonly type?: string;
    readonly vocab: Readonly<Record<string, number>> | readonly (readonly [string, number])[];
    readonly merges?: readonly unknown[];
    readonly unk_token?: string | null;
    readonly byte_fallback?: boolean;
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  readonly special: boolean;
}

/** `tokenizer_config.json`, as far as Plinth looks into it. Tokens are strings or objects with `content`. */
export interface TokenizerConfig {
  readonly bos_token?: unknown;
  readonly eos_token?: unknown;
  readonly pad_token?: unknown;
  readonly unk_token?: unknown;
  readonly chat_template?: unknown;
  readonly [key: string]: unknown;
}

/** A token in tokenizer_config.json: a string or `{ content }`. */
export function tokenContent(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null && "content" in value && typeof value.content === "string")
    return value.content;
  return undefined;
}

/** A tokenizer as its files hold it. */
export interface TokenizerFiles {
  readonly json: TokenizerJson;
  readonly config: TokenizerConfig;
}

/** A GPT-2 style tokenizer: byte-level BPE without a prefix space. */
export function byteLevelBpe(
  vocab: Readonly<Record<string, number>>,
  merges: readonly (readonly string[])[],
  specials: readonly { readonly content: string; readonly id: number }[],
): TokenizerJson {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return bpeTokenizerJson(
    { vocab, merges, specials },
    {
      pre_tokenizer: byteLevel,
      post_processor: { ...byteLevel, trim_offsets: false },
      decoder: { ...byteLevel, add_prefix_space: true },
    },
  );
}

/** tokenizer.json of a BPE model without unknown token, normaliser or subword affixes. */
export function bpeTokenizerJson(
  model: {
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly (readonly string[])[];
    readonly specials: readonly { readonly content: string; readonly id: number }[];
  },
  stages: Pick<TokenizerJson, "pre_tokenizer" | "post_processor" | "decoder">,
): TokenizerJson {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: model.specials.map(specialToken),
    normalizer: null,
    pre_tokenizer: stages.pre_tokenizer,
    post_processor: stages.post_processor,
    decoder: stages.decoder,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: model.vocab,
      merges: model.merges,
    },
  };
}

export function specialToken({ content, id }: { readonly content: string; readonly id: number }): AddedToken {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
}
