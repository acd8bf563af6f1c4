import { createHash } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { makeFolder, PlinthError, sha256, writeJsonAtomic } from "../base/index.ts";
import { type Dataset, openDataset } from "./dataset.ts";
import { checkLicenceList, licenceAccepted, noAssertion } from "./licence.ts";
import type { Manifest, Split } from "./manifest.ts";
import { findSource, type SourceItem } from "./source.ts";
import { TextShardWriter, textShardPath } from "./text-shards.ts";

export interface BuildOptions {
  /** Folders, files, globs, JSONL or Parquet files, or `npm` for the installed packages. */
  readonly from: readonly string[];
  /** Folder to write; created when missing. */
  readonly out: string;
  /** SPDX ids or patterns (`BSD-*`); absent or empty accepts every licence that is not denied. */
  readonly allowLicences?: readonly string[];
  readonly denyLicences?: readonly string[];
  /** Licence of material that declares none. Default `NOASSERTION`. */
  readonly licence?: string;
  /** Share held out for evaluation, in [0, 1). Default 0.05. */
  readonly heldOut?: number;
  /**
   * `document` (default): a document is held out when the hash of its content and the seed says so, whatever else is in
   * the dataset. `tail`: the last share of every document's characters is held out, as is usual for one long text.
   */
  readonly split?: "document" | "tail";
  readonly seed?: number;
  /** Texts with fewer UTF-8 bytes are left out. Default 1. */
  readonly minBytes?: number;
  /** Files larger than this are left out. Default 64 MiB. */
  readonly maxFileBytes?: number;
  readonly textField?: string;
  /** Bytes of text per shard. Default 16 MiB. */
  readonly shardBytes?: number;
  /** Where relative sources and `node_modules` are looked up. Default: the working folder. */
  readonly cwd?: string;
  readonly onProgress?: (progress: BuildProgress) => void;
  readonly signal?: AbortSignal;
}

export interface BuildProgress {
  readonly documents: number;
  readonly bytes: number;
  readonly filtered: number;
  readonly source: string;
}

const examplesPerReason = 5;

/**
 * Reads sources into a dataset folder: provenance, exact deduplication, licence filter, train/held-out split. Streams:
 * memory holds one shard per split and one hash per document. The manifest is written last, so a folder with a
 * manifest is a whole dataset. Throws PlinthError when a source cannot be read, nothing is left to train on, or the
 * folder cannot be written.
 */
export async function buildDataset(options: BuildOptions): Promise<Dataset> {
  const settings = checkOptions(options);
  const out = resolve(options.out);
  await makeFolder(out);
  await makeFolder(join(out, "text"));
  const builder = new Builder(out, settings);
  for (const [index, from] of options.from.entries()) {
    const source = await findSource(from);
    builder.startSource(from, source.name);
    const read = { ...settings, signal: options.signal, textField: options.textField, exclude: out };
    for await (const item of source.read(from, definedOnly(read))) {
      options.signal?.throwIfAborted();
      const done = await builder.add(item, index);
      if (done !== undefined) options.onProgress?.(done);
    }
  }
  const manifest = await builder.finish();
  await writeJsonAtomic(join(out, "manifest.json"), manifest);
  await removeOtherShards(out, manifest);
  return openDataset(out);
}

/** Text left over from an earlier or an interrupted build in the same folder. */
async function removeOtherShards(out: string, { splits }: Manifest): Promise<void> {
  const kept = new Set(
    [...splits.train.shards, ...splits.heldOut.shards].map(({ sha256: hash }) => textShardPath(out, hash)),
  );
  for (const name of await readdir(join(out, "text"))) {
    const path = join(out, "text", name);
    if (!kept.has(path)) await rm(path, { force: true });
  }
}

type Settings = ReturnType<typeof checkOptions>;

function checkOptions(options: BuildOptions) {
  const { heldOut = 0.05, seed = 0 } = options;
  if (options.from.length === 0)
    throw new PlinthError("no source given", "name at least one with --from PATH, GLOB or npm");
  if (!(heldOut >= 0 && heldOut < 1))
    throw new PlinthError(`--held-out: expected a share in [0, 1), got ${heldOut}`, "try 0.05");
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new PlinthError(`--seed: expected a whole number >= 0, got ${seed}`, "try 0");
  checkLicenceList("--allow-licence", options.allowLicences ?? []);
  checkLicenceList("--deny-licence", options.denyLicences ?? []);
  return {
    heldOut,
    seed,
    allowLicences: [...(options.allowLicences ?? [])],
    denyLicences: [...(options.denyLicences ?? [])],
    licence: options.licence ?? noAssertion,
    split: options.split ?? ("document" as const),
    minBytes: options.minBytes ?? 1,
    maxFileBytes: options.maxFileBytes ?? 64 * 2 ** 20,
    shardBytes: options.shardBytes ?? 16 * 2 ** 20,
    cwd: resolve(options.cwd ?? process.cwd()),
  };
}

/** Drops keys whose value is undefined. */
function definedOnly<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;
}

class Builder {
  readonly #settings: Settings;
  readonly #writers: Record<Split, TextShardWriter>;
  readonly #seen = new Set<string>();
  readonly #sources: Manifest["sources"] = [];
  readonly #licences: Manifest["licences"] = Object.create(null); // keys come from the data
  readonly #collections: Manifest["collections"] = Object.create(null); // keys come from the data
  readonly #filtered: Manifest["filtered"] = Object.create(null); // keys come from the data
  #filteredCount = 0;

  constructor(out: string, settings: Settings) {
    this.#settings = settings;
    const writer = () => new TextShardWriter(out, settings.shardBytes);
    this.#writers = { train: writer(), heldOut: writer() };
  }

  startSource(from: string, kind: string): void {
    this.#sources.push({ from, kind, retrievedAt: new Date().toISOString(), documents: 0, bytes: 0 });
  }

  /** Files the item away, or counts why not. Returns the progress so far. */
  async add(item: SourceItem, from: number): Promise<BuildProgress | undefined> {
    const source = this.#sources[from] as Manifest["sources"][number];
    const reason = "skipped" in item ? item.skipped : await this.#keep(item, from);
    if (reason !== undefined) {
      this.#filteredCount++;
      const entry = (this.#filtered[reason] ??= { count: 0, examples: [] });
      entry.count++;
      if (entry.examples.length < examplesPerReason) entry.examples.push(`${source.kind}:${item.source}`);
    }
    const sum = (key: "documents" | "bytes") => this.#sources.reduce((total, each) => total + each[key], 0);
    return { documents: sum("documents"), bytes: sum("bytes"), filtered: this.#filteredCount, source: source.from };
  }

  async #keep(item: Exclude<SourceItem, { skipped: string }>, from: number): Promise<string | undefined> {
    const { allowLicences: allow, denyLicences: deny, minBytes } = this.#settings;
    const transformations = [...(item.transformations ?? [])];
    const text = cleanText(item.text, transformations);
    const bytes = Buffer.byteLength(text);
    if (text.trim() === "" || bytes < minBytes) return "too small";
    const licence = item.licence ?? this.#settings.licence;
    if (!licenceAccepted(licence, { allow, deny })) return `licence ${licence}`;
    const key = sha256(text.normalize("NFC").trim());
    if (this.#seen.has(key)) return "duplicate";
    this.#seen.add(key);

    const line = { source: item.source, from, licence };
    const source = this.#sources[from] as Manifest["sources"][number];
    count(source, bytes);
    count((this.#licences[licence] ??= { documents: 0, bytes: 0 }), bytes);
    if (item.collection !== undefined) {
      const { name, url } = item.collection;
      count((this.#collections[name] ??= { documents: 0, bytes: 0, licence, ...definedOnly({ url }) }), bytes);
    }
    for (const part of this.#split(text, key)) {
      const steps = part.step === undefined ? transformations : [...transformations, part.step];
      await this.#writers[part.to].add(
        { text: part.text, ...line, sha256: sha256(part.text), transformations: steps },
        Buffer.byteLength(part.text),
      );
    }
    return undefined;
  }

  #split(text: string, key: string): { text: string; to: Split; step?: string }[] {
    const { heldOut, split, seed } = this.#settings;
    if (split === "document") return [{ text, to: splitShare(key, seed) < heldOut ? "heldOut" : "train" }];
    let cut = Math.floor(text.length * (1 - heldOut));
    if (/[\uDC00-\uDFFF]/.test(text[cut] ?? "")) cut++; // never between the halves of a surrogate pair
    const parts = [
      { text: text.slice(0, cut), to: "train" as const, step: `characters 0-${cut} (split tail ${heldOut})` },
      {
        text: text.slice(cut),
        to: "heldOut" as const,
        step: `characters ${cut}-${text.length} (split tail ${heldOut})`,
      },
    ];
    return parts.filter((part) => part.text !== "");
  }

  async finish(): Promise<Manifest> {
    const splits = {} as Manifest["splits"];
    for (const split of ["train", "heldOut"] as const) {
      const writer = this.#writers[split];
      await writer.flush();
      const total = (key: "documents" | "bytes") => writer.shards.reduce((sum, shard) => sum + shard[key], 0);
      splits[split] = { documents: total("documents"), bytes: total("bytes"), shards: writer.shards };
    }
    if (splits.train.documents === 0) throw this.#emptyError(splits.heldOut.documents);
    const { allowLicences, denyLicences, heldOut, split, seed, minBytes } = this.#settings;
    const names = (name: Split) => splits[name].shards.map((shard) => shard.sha256);
    return {
      format: "plinth-dataset",
      version: 1,
      hash: sha256(JSON.stringify({ version: 1, train: names("train"), heldOut: names("heldOut") })),
      createdAt: new Date().toISOString(),
      options: { allowLicences, denyLicences, heldOut, split, seed, minBytes },
      sources: this.#sources,
      splits,
      licences: this.#licences,
      collections: this.#collections,
      filtered: this.#filtered,
    };
  }

  #emptyError(heldOutDocuments: number): PlinthError {
    const sources = this.#sources.map((source) => source.from).join(", ");
    if (heldOutDocuments > 0) {
      return new PlinthError(
        `the dataset from ${sources} has ${heldOutDocuments} documents and all of them fell into the held-out split`,
        "hold out less, give more documents, or use --split tail",
      );
    }
    const reasons = Object.entries(this.#filtered)
      .map(([reason, { count: n, examples }]) => `${n} ${reason} (e.g. ${examples[0]})`)
      .join("; ");
    const onlyLicences = reasons !== "" && Object.keys(this.#filtered).every((reason) => reason.startsWith("licence "));
    return new PlinthError(
      `the dataset from ${sources} is empty: ${reasons === "" ? "no files or records were found" : `filtered ${reasons}`}`,
      onlyLicences
        ? "allow one of these licences, or state the licence of your own text with --licence"
        : "check the sources",
    );
  }
}

function count(tally: { documents: number; bytes: number }, bytes: number): void {
  tally.documents++;
  tally.bytes += bytes;
}

/** Removes a byte order mark and carriage returns before line feeds, and notes it. Lone surrogates become U+FFFD. */
function cleanText(original: string, transformations: string[]): string {
  let text = original;
  if (text.startsWith("\uFEFF")) {
    text = text.slice(1);
    transformations.push("byte order mark removed");
  }
  if (text.includes("\r\n")) {
    text = text.replaceAll("\r\n", "\n");
    transformations.push("CRLF to LF");
  }
  if (/\p{Surrogate}/u.test(text)) {
    text = text.replace(/\p{Surrogate}/gu, "\uFFFD");
    transformations.push("lone surrogates replaced");
  }
  return text;
}

/** A number in [0, 1) that depends on the document and the seed alone. */
function splitShare(key: string, seed: number): number {
  return createHash("sha256").update(`${seed}:${key}`).digest().readUIntBE(0, 6) / 2 ** 48;
}
