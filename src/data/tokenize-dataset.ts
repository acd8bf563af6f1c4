import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { readJson, sha256, writeJsonAtomic } from "../base/index.ts";
import type { Dataset } from "./dataset.ts";
import {
  checkInfilling,
  encodeForInfilling,
  type InfillingDocument,
  type InfillingOptions,
  requiredInfillingTokens,
} from "./fill-in-the-middle.ts";
import type { Split } from "./manifest.ts";
import { countBytes, TokenDocuments } from "./token-documents.ts";
import { readIndex, TokenFileReader, TokenFileWriter, writeIndex } from "./token-files.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface TokenizeOptions {
  /** Default: `tokens` in the dataset's folder. */
  readonly cacheDir?: string;
  /** Rearranges documents of the training split for filling in the middle; those held out stay as they are. */
  readonly infilling?: InfillingOptions | undefined;
  readonly onProgress?: (progress: {
    readonly documents: number;
    readonly total: number;
    readonly tokens: number;
  }) => void;
  readonly signal?: AbortSignal;
}

export interface TokenizedDataset {
  readonly train: TokenDocuments;
  readonly heldOut: TokenDocuments;
}

const splitSchema = z.object({ files: z.array(z.string()), index: z.string(), tokens: z.number() });
const manifestSchema = z.object({ train: splitSchema, heldOut: splitSchema });
type TokenManifest = z.infer<typeof manifestSchema>;

const batchCharacters = 2 ** 21;

/**
 * The dataset's documents as token ids, each ended by the tokenizer's end-of-text token when it has one. Special tokens
 * written in a document are read as text. Cached in a folder named by dataset and tokenizer; an interrupted run leaves
 * no manifest there and is done again. Throws PlinthError when a document cannot be encoded or the cache not written.
 */
export async function tokenizeDataset(
  dataset: Dataset,
  tokenizer: Tokenizer,
  options: TokenizeOptions = {},
): Promise<TokenizedDataset> {
  const { infilling } = options;
  if (infilling !== undefined) {
    checkInfilling(infilling);
    requiredInfillingTokens(tokenizer);
  }
  const hash = sha256(
    JSON.stringify({
      version: 1,
      dataset: dataset.hash,
      tokenizer: tokenizer.hash,
      eos: tokenizer.eosId ?? null,
      ...(infilling === undefined ? {} : { infilling }),
    }),
  );
  const dir = join(resolve(options.cacheDir ?? join(dataset.dir, "tokens")), hash.slice(0, 32));
  let manifest = await cached(dir);
  if (manifest === undefined) {
    const progress = { documents: 0, tokens: 0 };
    manifest = {
      train: await writeSplit(dir, dataset, { split: "train", tokenizer, options, progress }),
      heldOut: await writeSplit(dir, dataset, { split: "heldOut", tokenizer, options, progress }),
    };
    await writeJsonAtomic(join(dir, "manifest.json"), manifest);
  }
  const open = async (split: Split): Promise<TokenDocuments> => {
    const { files, index } = manifest[split];
    const reader = new TokenFileReader(dir, files, tokenizer.vocabSize);
    return new TokenDocuments({
      ...(await readIndex(dir, index)),
      hash: sha256(`${hash} ${split}`),
      vocabSize: tokenizer.vocabSize,
      tokenBytes: tokenizer.tokenBytes,
      bosId: tokenizer.bosId,
      eosId: tokenizer.eosId,
      read: (start, end) => reader.read(start, end),
    });
  };
  return { train: await open("train"), heldOut: await open("heldOut") };
}

/** The manifest of a complete cache: every file it names is there. */
async function cached(dir: string): Promise<TokenManifest | undefined> {
  const path = join(dir, "manifest.json");
  if ((await stat(path).catch(() => undefined)) === undefined) return undefined;
  const parsed = manifestSchema.safeParse(await readJson(path).catch(() => undefined));
  if (!parsed.success) return undefined;
  const names = Object.values(parsed.data).flatMap((split) => [...split.files, split.index]);
  const found = await Promise.all(names.map((name) => stat(join(dir, name)).catch(() => undefined)));
  return found.includes(undefined) ? undefined : parsed.data;
}

interface SplitJob {
  readonly split: Split;
  readonly tokenizer: Tokenizer;
  readonly options: TokenizeOptions;
  readonly progress: { documents: number; tokens: number };
}

async function writeSplit(dir: string, dataset: Dataset, job: SplitJob): Promise<TokenManifest[Split]> {
  const { split, tokenizer, options, progress } = job;
  const { train, heldOut } = dataset.manifest.splits;
  const writer = new TokenFileWriter(dir, tokenizer.vocabSize);
  const lengths: number[] = [];
  const bytes: number[] = [];
  const excess: number[] = [];
  const { infilling } = options;
  const toTokens =
    infilling === undefined || split === "heldOut"
      ? (texts: readonly string[]) => encodeWhole(texts, tokenizer)
      : (texts: readonly string[]) => encodeForInfilling(texts, tokenizer, infilling);
  const encode = async (texts: readonly string[]): Promise<void> => {
    for (const { ids, bytes: size } of await toTokens(texts)) {
      lengths.push(ids.length);
      bytes.push(size);
      excess.push(countBytes(ids, tokenizer.tokenBytes) - size);
      await writer.add(ids);
      progress.tokens += ids.length;
    }
    progress.documents += texts.length;
    options.onProgress?.({ ...progress, total: train.documents + heldOut.documents });
  };
  let batch: string[] = [];
  let characters = 0;
  for await (const document of dataset.documents(split)) {
    options.signal?.throwIfAborted();
    batch.push(document.text);
    characters += document.text.length;
    if (characters < batchCharacters) continue;
    await encode(batch);
    batch = [];
    characters = 0;
  }
  await encode(batch);
  await writer.flush();
  const index = { lengths: Uint32Array.from(lengths), bytes: Uint32Array.from(bytes), excess: Int32Array.from(excess) };
  return {
    files: writer.files,
    index: await writeIndex(dir, index),
    tokens: lengths.reduce((sum, length) => sum + length, 0),
  };
}

async function encodeWhole(texts: readonly string[], tokenizer: Tokenizer): Promise<InfillingDocument[]> {
  const encoded = await tokenizer.encodeBatch(texts, { literal: true });
  return encoded.map((own, i) => {
    const ids = new Int32Array(own.length + (tokenizer.eosId === undefined ? 0 : 1));
    if (tokenizer.eosId !== undefined) ids[own.length] = tokenizer.eosId;
    ids.set(own);
    return { ids, bytes: Buffer.byteLength(texts[i] as string) };
  });
}
