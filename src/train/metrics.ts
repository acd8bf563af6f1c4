import { type FileHandle, open, readFile } from "node:fs/promises";
import { explainWriteError, writeFileAtomic } from "../base/index.ts";
import type { JsonValue } from "../data/index.ts";

/** One JSON object per line; each has the `step` it belongs to. Appended as the run goes, synced with checkpoints. */
export class MetricsLog {
  readonly path: string;
  readonly #file: FileHandle;
  #buffer: string[] = [];
  #lastWrite = performance.now();

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /**
   * Opens the log with the lines up to and including `step`; later ones were written after the checkpoint that the run
   * continues from (or cut short by a kill) and are dropped.
   */
  static async open(path: string, step: number): Promise<MetricsLog> {
    const kept = await linesUpTo(path, step);
    await writeFileAtomic(path, kept);
    return new MetricsLog(path, await open(path, "a"));
  }

  add(line: { readonly step: number; readonly [key: string]: JsonValue | undefined }): void {
    this.#buffer.push(`${JSON.stringify(line)}\n`);
  }

  /** Hands buffered lines to the operating system when some time has passed since the last time. */
  async tick(): Promise<void> {
    if (performance.now() - this.#lastWrite > 1000) await this.#write();
  }

  async sync(): Promise<void> {
    await this.#write();
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    try {
      await this.#write();
    } finally {
      await this.#file.close();
    }
  }

  async #write(): Promise<void> {
    this.#lastWrite = performance.now();
    if (this.#buffer.length === 0) return;
    const text = this.#buffer.join("");
    this.#buffer = [];
    try {
      await this.#file.appendFile(text);
    } catch (error) {
      throw explainWriteError(error, this.path);
    }
  }
}

async function linesUpTo(path: string, step: number): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch {
    return "";
  }
  let kept = "";
  for (const line of text.split("\n")) {
    if (line === "") continue;
    try {
      const parsed = JSON.parse(line) as { step?: number };
      if (typeof parsed.step === "number" && parsed.step <= step) kept += `${line}\n`;
    } catch {
      // The line that was being written when the process ended.
    }
  }
  return kept;
}
