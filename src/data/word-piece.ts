import { PlinthError } from "../base/index.ts";
import { specialToken, type TokenizerConfig, type TokenizerFiles, type TokenizerJson } from "./tokenizer-json.ts";

/** BERT's special tokens, in the order in which a trained vocabulary begins with them. */
export const bertSpecialTokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] as const;

export interface WordPieceOptions {
  readonly lowercase: boolean;
  /** Drop accents; default: when lowercasing, as BERT does. */
  readonly stripAccents?: boolean | null;
  readonly splitChineseCharacters?: boolean;
  /** Special tokens; those of BERT in the vocabulary by default. */
  readonly specialTokens?: readonly string[];
}

const continuing = "##";

/**
 * tokenizer.json of a BERT: its normaliser, split at white space and punctuation, greedy longest match of word pieces,
 * `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]` around texts. Source: Devlin et al. 2019; google-research/bert.
 */
export function wordPieceJson(vocab: Readonly<Record<string, number>>, options: WordPieceOptions): TokenizerJson {
  const specials = options.specialTokens ?? bertSpecialTokens.filter((token) => Object.hasOwn(vocab, token));
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specials.map((content) => specialToken({ content, id: vocab[content] as number })),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: options.splitChineseCharacters ?? true,
      strip_accents: options.stripAccents ?? null,
      lowercase: options.lowercase,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: bertTemplate(vocab),
    decoder: { type: "WordPiece", prefix: continuing, cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: continuing,
      max_input_chars_per_word: 100,
      vocab,
    },
  };
}

/** tokenizer_config.json that goes with it. */
export function bertConfig(vocab: Readonly<Record<string, number>>, lowercase: boolean): TokenizerConfig {
  const names = { pad: "[PAD]", unk: "[UNK]", cls: "[CLS]", sep: "[SEP]", mask: "[MASK]" };
  const tokens = Object.entries(names).filter(([, token]) => Object.hasOwn(vocab, token));
  return {
    ...Object.fromEntries(tokens.map(([name, token]) => [`${name}_token`, token])),
    do_lower_case: lowercase,
    tokenizer_class: "BertTokenizer",
  };
}

/** Pieces around one text and a pair of texts, where the vocabulary has [CLS] and [SEP]. */
function bertTemplate(vocab: Readonly<Record<string, number>>): object | null {
  if (!Object.hasOwn(vocab, "[CLS]") || !Object.hasOwn(vocab, "[SEP]")) return null;
  const special = (id: string, type: number) => ({ SpecialToken: { id, type_id: type } });
  const text = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
  const single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)];
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, text("B", 1), special("[SEP]", 1)],
    special_tokens: Object.fromEntries(
      ["[CLS]", "[SEP]"].map((id) => [id, { id, ids: [vocab[id] as number], tokens: [id] }]),
    ),
  };
}

/**
 * BERT's `vocab.txt`: a token a line, its id the number of the line. Whether text is lowercased says `do_lower_case` of
 * tokenizer_config.json; without it, text is lowercased when no token has a capital of ASCII. Throws PlinthError when a
 * token is there twice, or there is no [UNK].
 */
export function readVocabTxt(text: string, path: string, config: TokenizerConfig): TokenizerFiles {
  const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
  if (lines.at(-1) === "") lines.pop();
  const vocab = Object.fromEntries(lines.map((token, id) => [token, id]));
  const fail = (what: string): never => {
    throw new PlinthError(`${path}: ${what}`, "name the vocab.txt of a BERT, one token a line");
  };
  if (!Object.hasOwn(vocab, "[UNK]")) return fail("not a word-piece vocabulary (no [UNK])");
  const twice = lines.find((token, id) => vocab[token] !== id);
  if (twice !== undefined) return fail(`the token ${JSON.stringify(twice)} is there twice`);
  const said = config["do_lower_case"];
  const isBracketed = (token: string) => token.startsWith("[") && token.endsWith("]");
  const lowercase =
    typeof said === "boolean" ? said : !lines.some((token) => /[A-Z]/.test(token) && !isBracketed(token));
  const flag = (name: string) => (typeof config[name] === "boolean" ? (config[name] as boolean) : undefined);
  const json = wordPieceJson(vocab, {
    lowercase,
    stripAccents: flag("strip_accents") ?? null,
    splitChineseCharacters: flag("tokenize_chinese_chars") ?? true,
  });
  return { json, config: { ...bertConfig(vocab, lowercase), ...config } };
}
