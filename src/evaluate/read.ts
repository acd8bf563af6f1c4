import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { explainReadError, PlinthError } from "../base/index.ts";

/** Reads a text file, packed with gzip where it ends in .gz. Throws PlinthError naming it when it cannot be read. */
export async function readText(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw explainReadError(error, path);
  }
  if (!path.endsWith(".gz")) return bytes.toString();
  try {
    return gunzipSync(bytes).toString();
  } catch (error) {
    throw new PlinthError(`${path}: not a gzip file (${(error as Error).message})`, "download the file again");
  }
}

/** A line of a file and where it stands, for messages: `file.jsonl:12`. */
export interface Line<T> {
  readonly value: T;
  readonly where: string;
}

/** JSON objects, one per line; empty lines are skipped. Throws PlinthError naming file and line. */
export function parseJsonLines(text: string, path: string, firstLine = 1): Line<Record<string, unknown>>[] {
  return text.split("\n").flatMap((line, i) => {
    if (line.trim() === "") return [];
    const where = `${path}:${firstLine + i}`;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new PlinthError(`${where}: not JSON (${(error as Error).message})`, "write one JSON object per line");
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new PlinthError(
        `${where}: expected a JSON object, got ${JSON.stringify(value).slice(0, 40)}`,
        "write one JSON object per line",
      );
    }
    return [{ value: value as Record<string, unknown>, where }];
  });
}

/** Rows of a tab-separated file without header or quoting. Throws PlinthError naming the line with too few columns. */
export function parseTsv(text: string, path: string, columns: number): Line<readonly string[]>[] {
  return text.split("\n").flatMap((line, i) => {
    if (line.trim() === "") return [];
    const value = line.replace(/\r$/, "").split("\t");
    const where = `${path}:${i + 1}`;
    if (value.length === columns) return [{ value, where }];
    throw new PlinthError(
      `${where}: expected ${columns} columns separated by tabs, got ${value.length}`,
      "correct the line",
    );
  });
}
