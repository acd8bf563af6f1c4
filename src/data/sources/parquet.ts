import { open, stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import * as zlib from "node:zlib";
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from "hyparquet";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { defineSource } from "../source.ts";

const rowsAtATime = 1000;

/** Codecs that hyparquet leaves to the caller; zstd comes with Node from 22.15 on. */
const compressors: Record<string, (input: Uint8Array, outputLength: number) => Uint8Array> = {
  GZIP: (input) => zlib.gunzipSync(input),
  BROTLI: (input) => zlib.brotliDecompressSync(input),
  ZSTD: (input) => {
    const decompress = (zlib as { zstdDecompressSync?: (input: Uint8Array) => Uint8Array }).zstdDecompressSync;
    if (decompress === undefined)
      throw new PlinthError("zstd needs Node 22.15 or newer", "update Node or write the file with snappy");
    return decompress(input);
  },
};

/** Apache Parquet: one record per row, the text in the column `text` (or another by option), `licence`/`license` if present. */
export const source = defineSource({
  name: "parquet",
  claims: (from) => /\.parquet$/i.test(from) && !/[*?{]/.test(from),
  async *read(from, options) {
    const path = resolve(options.cwd, from);
    const field = options.textField ?? "text";
    const handle = await open(path).catch((error: unknown) => {
      throw explainReadError(error, path);
    });
    try {
      const file: AsyncBuffer = {
        byteLength: (await stat(path)).size,
        slice: async (start, end = file.byteLength) => {
          const bytes = new Uint8Array(end - start);
          const { bytesRead } = await handle.read(bytes, 0, bytes.length, start);
          return bytes.buffer.slice(0, bytesRead);
        },
      };
      const metadata = await readable(path, () => parquetMetadataAsync(file));
      const columns = parquetSchema(metadata).children.map((child) => child.element.name);
      if (!columns.includes(field)) {
        throw new PlinthError(
          `${path}: no column "${field}"`,
          `name the column with --text-field (columns: ${columns.join(", ")})`,
        );
      }
      const licence = ["licence", "license"].find((name) => columns.includes(name));
      yield* rows(file, metadata, { path, field, licence, signal: options.signal });
    } finally {
      await handle.close();
    }
  },
});

interface RowOptions {
  readonly path: string;
  readonly field: string;
  readonly licence: string | undefined;
  readonly signal: AbortSignal | undefined;
}

async function* rows(file: AsyncBuffer, metadata: FileMetaData, options: RowOptions) {
  const { path, field, licence } = options;
  const columns = licence === undefined ? [field] : [field, licence];
  const count = Number(metadata.num_rows);
  for (let rowStart = 0; rowStart < count; rowStart += rowsAtATime) {
    options.signal?.throwIfAborted();
    const rowEnd = Math.min(count, rowStart + rowsAtATime);
    const batch = await readable(path, () =>
      parquetReadObjects({ file, metadata, columns, rowStart, rowEnd, compressors }),
    );
    for (const [i, row] of batch.entries()) {
      const source = `${basename(path)}:${rowStart + i + 1}`;
      const text: unknown = row[field];
      if (text === null || text === undefined) yield { skipped: "no text", source };
      else if (typeof text !== "string") {
        throw new PlinthError(
          `${path}: column "${field}" holds ${typeof text}, expected text`,
          "name a text column with --text-field",
        );
      } else {
        const value: unknown = licence === undefined ? undefined : row[licence];
        yield { text, source, ...(typeof value === "string" && value !== "" ? { licence: value } : {}) };
      }
    }
  }
}

async function readable<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof PlinthError) throw new PlinthError(`${path}: ${error.message}`);
    throw new PlinthError(
      `${path}: not a readable Parquet file (${(error as Error).message})`,
      "it is truncated or damaged; download it again",
      {
        cause: error,
      },
    );
  }
}
