import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { explainReadError, PlinthError, readJson } from "../base/index.ts";
import { readSentencePiece } from "./sentence-piece.ts";
import { byteLevelBpe, type TokenizerConfig, type TokenizerFiles, type TokenizerJson } from "./tokenizer-json.ts";
import { readVocabTxt } from "./word-piece.ts";

/**
 * Reads a tokenizer from a folder (`tokenizer.json`, or GPT-2's `vocab.json`/`encoder.json` with `merges.txt`/
 * `vocab.bpe`, or BERT's `vocab.txt`, or SentencePiece's
 * `tokenizer.model` or `spiece.model`; `tokenizer_config.json` and `chat_template.jinja` beside it), or from one of these
 * files. Throws PlinthError naming the file that is missing or damaged.
 */
export async function readTokenizerFiles(path: string): Promise<TokenizerFiles> {
  const info = await stat(path).catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  const folder = info.isDirectory() ? path : dirname(path);
  const file = info.isDirectory() ? await firstFile(folder, tokenizerFiles) : path;
  if (file === undefined) {
    throw new PlinthError(
      `${folder}: no tokenizer.json`,
      "save it with transformers as a fast tokenizer, or name the folder or file that has the tokenizer",
    );
  }
  const config = await readConfig(folder);
  if (file.endsWith(".txt")) return readVocabTxt(await readFile(file, "utf8"), file, config);
  if (file.endsWith(".model")) return readSentencePiece(await readFile(file), file, config);
  const json = (await readJson(file)) as TokenizerJson;
  if (isVocabulary(json)) return { json: await gpt2Json(file, json), config: { ...gpt2Config, ...config } };
  if (typeof json !== "object" || json === null || typeof json.model?.vocab !== "object") {
    throw new PlinthError(`${file}: not a tokenizer.json (no model.vocab)`, "save the tokenizer again");
  }
  return { json, config };
}

/** What a folder's tokenizer is read from, the first of these that is there. */
const tokenizerFiles = [
  "tokenizer.json",
  "vocab.json",
  "encoder.json",
  "vocab.txt",
  "spiece.model",
  "tokenizer.model",
] as const;

/** Whether a folder has a tokenizer that {@link readTokenizerFiles} reads. */
export async function hasTokenizer(folder: string): Promise<boolean> {
  const file = await firstFile(folder, tokenizerFiles);
  if (file === undefined || !/(vocab|encoder)\.json$/.test(file)) return file !== undefined;
  return (await firstFile(folder, ["merges.txt", "vocab.bpe"])) !== undefined;
}

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
