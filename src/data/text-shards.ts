import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { explainReadError, PlinthError, sha256, writeFileAtomic } from "../base/index.ts";

const compress = promisify(gzip);
const decompress = promisify(gunzip);

/** One line of a text shard. `from` is the index of the manifest's source. */
export interface ShardLine {
  readonly text: string;
  readonly source: string;
  readonly from: number;
  readonly licence: string;
  readonly sha256: string;
  readonly transformations: readonly string[];
}

export interface ShardInfo {
  readonly sha256: string;
  readonly documents: number;
  readonly bytes: number;
}

/**
 * Writes documents into gzipped JSONL files named by the sha256 of their uncompressed content. Holds at most one
 * shard's text in memory.
 */
export class TextShardWriter {
  readonly shards: ShardInfo[] = [];
  readonly #dir: string;
  readonly #shardBytes: number;
  #lines: string[] = [];
  #bytes = 0;

  constructor(dir: string, shardBytes: number) {
    this.#dir = dir;
    this.#shardBytes = shardBytes;
  }

  async add(line: ShardLine, bytes: number): Promise<void> {
    this.#lines.push(`${JSON.stringify(line)}\n`);
    this.#bytes += bytes;
    if (this.#bytes >= this.#shardBytes) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#lines.length === 0) return;
    const content = Buffer.from(this.#lines.join(""), "utf8");
    const info = { sha256: sha256(content), documents: this.#lines.length, bytes: this.#bytes };
    this.#lines = [];
    this.#bytes = 0;
    await writeFileAtomic(textShardPath(this.#dir, info.sha256), await compress(content));
    this.shards.push(info);
  }
}

export function textShardPath(dir: string, hash: string): string {
  return join(dir, "text", `${hash}.jsonl.gz`);
}

/** The lines of a shard. Throws PlinthError when the file is missing or its content is not what its name says. */
export async function readTextShard(dir: string, info: ShardInfo): Promise<ShardLine[]> {
  const path = textShardPath(dir, info.sha256);
  const packed = await readFile(path).catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  const content = await decompress(packed).catch(() => undefined);
  if (content === undefined || sha256(content) !== info.sha256) {
    throw new PlinthError(`${path}: damaged (its content does not match its name)`, "build the dataset again");
  }
  return content
    .toString("utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as ShardLine);
}
