import { readFile, stat } from "node:fs/promises";
import { explainReadError } from "../base/index.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of a file, or the reason why it is not text. Bytes that are not UTF-8 are never replaced. */
export async function readTextFile(path: string, maxBytes: number): Promise<{ text: string } | { skipped: string }> {
  let bytes: Uint8Array;
  try {
    if ((await stat(path)).size > maxBytes) return { skipped: "too large" };
    bytes = await readFile(path);
  } catch (error) {
    throw explainReadError(error, path);
  }
  return decodeText(bytes);
}

export function decodeText(bytes: Uint8Array): { text: string } | { skipped: string } {
  if (bytes.subarray(0, 8192).includes(0)) return { skipped: "binary" };
  try {
    return { text: decoder.decode(bytes) };
  } catch {
    return { skipped: "invalid UTF-8" };
  }
}
