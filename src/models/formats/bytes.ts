import { stat } from "node:fs/promises";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { mapFile } from "../../engine/index.ts";

/**
 * The bytes of a file, mapped into memory (pages are read when touched, and writing to them never reaches the file).
 * Throws PlinthError when the file cannot be opened.
 */
export async function openBytes(path: string): Promise<ArrayBuffer> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new PlinthError(`${path}: not a file`, "name the file");
    return info.size === 0 ? new ArrayBuffer(0) : mapFile(path);
  } catch (error) {
    throw explainReadError(error, path);
  }
}
