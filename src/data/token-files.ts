import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { explainReadError, PlinthError, sha256, writeFileAtomic } from "../base/index.ts";
import type { DocumentIndex } from "./token-documents.ts";

export type TokenArray = Uint16Array | Uint32Array;

/** Tokens per file; every file of a split but the last has exactly this many. */
export const tokensPerFile = 2 ** 23;

const cacheBytes = 512 * 2 ** 20;

/** Writes token ids to files of a fixed number of tokens, named by the sha256 of their bytes (little-endian). */
export class TokenFileWriter {
  readonly files: string[] = [];
  readonly #dir: string;
  readonly #buffer: TokenArray;
  #used = 0;

  constructor(dir: string, vocabSize: number) {
    this.#dir = dir;
    this.#buffer = vocabSize <= 2 ** 16 ? new Uint16Array(tokensPerFile) : new Uint32Array(tokensPerFile);
  }

  async add(ids: Int32Array): Promise<void> {
    for (let from = 0; from < ids.length; ) {
      const take = Math.min(ids.length - from, tokensPerFile - this.#used);
      this.#buffer.set(ids.subarray(from, from + take), this.#used);
      this.#used += take;
      from += take;
      if (this.#used === tokensPerFile) await this.flush();
    }
  }

  async flush(): Promise<void> {
    if (this.#used === 0) return;
    const { buffer, BYTES_PER_ELEMENT } = this.#buffer;
    const bytes = new Uint8Array(buffer, 0, this.#used * BYTES_PER_ELEMENT);
    const name = `${sha256(bytes)}.tokens`;
    await writeFileAtomic(join(this.#dir, name), bytes);
    this.files.push(name);
    this.#used = 0;
  }
}

/** Reads token files on demand; keeps the most recently used up to 512 MiB. Throws PlinthError when one is damaged. */
export class TokenFileReader {
  readonly #dir: string;
  readonly #files: readonly string[];
  readonly #wide: boolean;
  readonly #cache = new Map<number, Promise<TokenArray>>();

  constructor(dir: string, files: readonly string[], vocabSize: number) {
    this.#dir = dir;
    this.#files = files;
    this.#wide = vocabSize > 2 ** 16;
  }

  async read(start: number, end: number): Promise<Int32Array> {
    const ids = new Int32Array(Math.max(0, end - start));
    for (let at = start; at < end; ) {
      const file = Math.floor(at / tokensPerFile);
      const from = at - file * tokensPerFile;
      const take = Math.min(end - at, tokensPerFile - from);
      ids.set((await this.#load(file)).subarray(from, from + take), at - start);
      at += take;
    }
    return ids;
  }

  #load(file: number): Promise<TokenArray> {
    const known = this.#cache.get(file);
    const tokens = known ?? this.#open(this.#files[file] as string);
    if (known === undefined) tokens.catch(() => this.#cache.delete(file)); // read again when asked again
    this.#cache.delete(file); // and back in: a Map keeps the order of insertion
    this.#cache.set(file, tokens);
    const fileBytes = tokensPerFile * (this.#wide ? 4 : 2);
    if (this.#cache.size > cacheBytes / fileBytes) this.#cache.delete(this.#cache.keys().next().value as number);
    return tokens;
  }

  async #open(name: string): Promise<TokenArray> {
    const bytes = await readChecked(join(this.#dir, name));
    return this.#wide ? new Uint32Array(bytes) : new Uint16Array(bytes);
  }
}

/** Writes the per-document numbers; returns the file's name. */
export async function writeIndex(dir: string, index: DocumentIndex): Promise<string> {
  const parts = [index.lengths, index.bytes, index.excess].map(
    (part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength),
  );
  const bytes = Buffer.concat(parts);
  const name = `${sha256(bytes)}.index`;
  await writeFileAtomic(join(dir, name), bytes);
  return name;
}

export async function readIndex(dir: string, name: string): Promise<DocumentIndex> {
  const bytes = await readChecked(join(dir, name));
  const count = bytes.byteLength / 12;
  return {
    lengths: new Uint32Array(bytes, 0, count),
    bytes: new Uint32Array(bytes, 4 * count, count),
    excess: new Int32Array(bytes, 8 * count, count),
  };
}

async function readChecked(path: string): Promise<ArrayBuffer> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  if (!path.includes(sha256(bytes))) {
    throw new PlinthError(
      `${path}: damaged (its content does not match its name)`,
      "delete the folder; it is made again",
    );
  }
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}
