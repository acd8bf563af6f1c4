import { readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import { pathToFileURL } from "node:url";

/** What a source yields: a text with where it comes from, or the news that something was left out and why. */
export type SourceItem =
  | {
      readonly text: string;
      /** Name within the source, the same on every machine: a relative path, `zod@4.6.7/README.md`, `data.jsonl:17`. */
      readonly source: string;
      /** SPDX expression; absent when the material says nothing. */
      readonly licence?: string;
      /** Larger unit that the record belongs to, such as an npm package. */
      readonly collection?: { readonly name: string; readonly url?: string };
      readonly transformations?: readonly string[];
    }
  | { readonly skipped: string; readonly source: string };

export interface SourceOptions {
  /** Field or column that holds the text in JSONL and Parquet. Default `text`. */
  readonly textField?: string;
  /** Files larger than this are left out and counted. */
  readonly maxFileBytes: number;
  readonly signal?: AbortSignal;
  /** Where relative paths and `node_modules` are looked up. */
  readonly cwd: string;
  /** Folder being written, never read. */
  readonly exclude?: string;
}

/** A kind of source. Adding one means adding a file to `data/sources/` that exports one as `source`. */
export interface Source {
  readonly name: string;
  /** Whether a `--from` value is for this source. The folder source claims what nobody else does. */
  readonly claims: (from: string) => boolean;
  /** Streams the material in an order that is the same on every machine. Throws PlinthError when it cannot be read. */
  readonly read: (from: string, options: SourceOptions) => AsyncIterable<SourceItem>;
}

/** A kind of source, frozen. Every file in `data/sources/` exports one as `source`, which is how it becomes known. */
export function defineSource(source: Source): Source {
  return Object.freeze(source);
}

let loaded: Promise<readonly Source[]> | undefined;

/** Every source in `data/sources/`, the folder source last because it claims everything. */
export function allSources(): Promise<readonly Source[]> {
  loaded ??= (async () => {
    const folder = join(import.meta.dirname, "sources");
    const files = (await readdir(folder)).filter(
      (file) => extname(file) === extname(import.meta.filename) && !file.endsWith(".d.ts"),
    );
    const sources = await Promise.all(
      files
        .sort()
        .map(async (file) => ((await import(pathToFileURL(join(folder, file)).href)) as { source: Source }).source),
    );
    return sources.sort((a, b) => Number(a.name === "folder") - Number(b.name === "folder"));
  })();
  return loaded;
}

export async function findSource(from: string): Promise<Source> {
  const source = (await allSources()).find((candidate) => candidate.claims(from));
  if (source === undefined) throw new Error(`no source claims ${from}`);
  return source;
}
