import { resolve } from "node:path";
import { type Manifest, readManifest, type Split } from "./manifest.ts";
import { readTextShard } from "./text-shards.ts";

/** A text with its provenance. */
export interface Document {
  /** The sha256 of the text: unique within a dataset. */
  readonly id: string;
  readonly text: string;
  /** Where it comes from: the source's kind and the name within it, `npm:zod@4.6.7/README.md`. */
  readonly source: string;
  /** SPDX expression; `NOASSERTION` when the material says nothing. */
  readonly licence: string;
  /** ISO 8601 time at which the source was read. */
  readonly retrievedAt: string;
  readonly sha256: string;
  /** What was done to the original content, in order. */
  readonly transformations: readonly string[];
}

/** A dataset folder opened for reading. */
export interface Dataset {
  readonly dir: string;
  readonly manifest: Manifest;
  readonly hash: string;
  /** Documents in the dataset's order, one shard in memory at a time. */
  documents(split: Split): AsyncGenerator<Document>;
  /** Their texts alone, for training a tokenizer. */
  texts(split: Split): AsyncGenerator<string>;
}

/** Opens a folder written by buildDataset. Throws PlinthError when it is none. */
export async function openDataset(dir: string): Promise<Dataset> {
  const folder = resolve(dir);
  const manifest = await readManifest(folder);
  const dataset: Dataset = {
    dir: folder,
    manifest,
    hash: manifest.hash,
    async *texts(split) {
      for await (const { text } of dataset.documents(split)) yield text;
    },
    async *documents(split) {
      for (const shard of manifest.splits[split].shards) {
        for (const { from, source, sha256, ...line } of await readTextShard(folder, shard)) {
          const origin = manifest.sources[from];
          yield {
            id: sha256,
            sha256,
            source: origin === undefined ? source : `${origin.kind}:${source}`,
            retrievedAt: origin?.retrievedAt ?? manifest.createdAt,
            ...line,
          };
        }
      }
    },
  };
  return dataset;
}
