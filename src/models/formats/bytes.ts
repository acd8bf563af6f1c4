import { readFile, stat } from "node:fs/promises";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { mapFile } from "../../engine/index.ts";

/**
 * The bytes of a file: mapped into memory where the native engine is there (pages are read when touched, and writing
 * to them never reaches the file), read whole otherwise. Throws PlinthError when the file cannot be opened.
 */
export async function openBytes(path: string): Promise<ArrayBuffer> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new PlinthError(`${path}: not a file`, "name the file");
    if (info.size === 0) return new ArrayBuffer(0);
    const mapped = mapFile(path);
    if (mapped !== undefined) return mapped;
    const data = await readFile(path);
    return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer;
  } catch (error) {
    throw explainReadError(error, path);
  }
}
