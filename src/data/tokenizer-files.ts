import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { explainReadError, PlinthError, readJson } from "../base/index.ts";
import { readVocabTxt } from "./word-piece.ts";

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

export interface TokenizerFiles {
  readonly json: TokenizerJson;
  readonly config: TokenizerConfig;
}

/**
 * Reads a tokenizer from a folder (`tokenizer.json`, or GPT-2's `vocab.json`/`encoder.json` with `merges.txt`/
 * `vocab.bpe`, or BERT's `vocab.txt`; `tokenizer_config.json` and `chat_template.jinja` beside it), or from one of these
 * files. Throws PlinthError naming the file that is missing or damaged.
 */
export async function readTokenizerFiles(path: string): Promise<TokenizerFiles> {
  const info = await stat(path).catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  const folder = info.isDirectory() ? path : dirname(path);
  const file = info.isDirectory() ? await firstFile(folder, tokenizerFiles) : path;
  if (file === undefined) {
    const sentencePiece = await firstFile(folder, ["tokenizer.model", "spiece.model"]);
    throw new PlinthError(
      `${folder}: no tokenizer.json${sentencePiece === undefined ? "" : ` (only SentencePiece's ${basename(sentencePiece)})`}`,
      "save it with transformers as a fast tokenizer, or name the folder or file that has tokenizer.json",
    );
  }
  const config = await readConfig(folder);
  if (file.endsWith(".txt")) return readVocabTxt(await readFile(file, "utf8"), file, config);
  const json = (await readJson(file)) as TokenizerJson;
  if (isVocabulary(json)) return { json: await gpt2Json(file, json), config: { ...gpt2Config, ...config } };
  if (typeof json !== "object" || json === null || typeof json.model?.vocab !== "object") {
    throw new PlinthError(`${file}: not a tokenizer.json (no model.vocab)`, "save the tokenizer again");
  }
  return { json, config };
}

/** What a folder's tokenizer is read from, the first of these that is there. */
const tokenizerFiles = ["tokenizer.json", "vocab.json", "encoder.json", "vocab.txt"];

async function firstFile(folder: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    if ((await stat(join(folder, name)).catch(() => undefined))?.isFile()) return join(folder, name);
  }
  return undefined;
}

async function readConfig(folder: string): Promise<TokenizerConfig> {
  const path = await firstFile(folder, ["tokenizer_config.json"]);
  const config = path === undefined ? {} : ((await readJson(path)) as TokenizerConfig);
  const template = await firstFile(folder, ["chat_template.jinja"]);
  return template === undefined ? config : { ...config, chat_template: await readFile(template, "utf8") };
}

const endOfText = "<|endoftext|>";
const gpt2Config: TokenizerConfig = { bos_token: endOfText, eos_token: endOfText, unk_token: endOfText };

function isVocabulary(json: unknown): json is Record<string, number> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return false;
  const values = Object.values(json);
  return values.length > 0 && values.every((value) => Number.isInteger(value));
}

async function gpt2Json(file: string, vocab: Record<string, number>): Promise<TokenizerJson> {
  const merges = await firstFile(dirname(file), ["merges.txt", "vocab.bpe"]);
  if (merges === undefined) {
    throw new PlinthError(`${file}: a vocabulary without its merges`, "put merges.txt (or vocab.bpe) beside it");
  }
  const lines = (await readFile(merges, "utf8")).split("\n");
  const pairs = lines.filter((line) => line !== "" && !line.startsWith("#version")).map((line) => line.split(" "));
  const specials = endOfText in vocab ? [{ content: endOfText, id: vocab[endOfText] as number }] : [];
  return byteLevelBpe(vocab, pairs, specials);
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
