import { createReadStream } from "node:fs";
import { basename, resolve } from "node:path";
import { pipeline, type Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { defineSource, type SourceItem } from "../source.ts";

/**
 * JSON Lines, plain or gzipped: one record per line, the text in the field `text` (or another by option). A string
 * field `licence` or `license` is the record's licence. A line that is not an object with that field is an error
 * naming file and line.
 */
export const source = defineSource({
  name: "jsonl",
  claims: (from) => /\.(jsonl|ndjson)(\.gz)?$/i.test(from) && !/[*?{]/.test(from),
  async *read(from, options) {
    const path = resolve(options.cwd, from);
    const field = options.textField ?? "text";
    let number = 0;
    for await (const line of lines(path, options.maxFileBytes)) {
      options.signal?.throwIfAborted();
      number++;
      if (line.trim() === "") continue;
      yield parseLine(line, field, { path, number });
    }
  },
});

function parseLine(line: string, field: string, at: { path: string; number: number }): SourceItem {
  const where = `${at.path}:${at.number}`;
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw new PlinthError(`${where}: not valid JSON (${(error as Error).message})`, "repair or remove the line");
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw new PlinthError(
      `${where}: expected an object, got ${JSON.stringify(record).slice(0, 40)}`,
      "write one object per line",
    );
  }
  const fields = record as Record<string, unknown>;
  const text = fields[field];
  if (typeof text !== "string") {
    const known = Object.keys(fields).filter((key) => typeof fields[key] === "string");
    throw new PlinthError(
      `${where}: expected text in the field "${field}", got ${text === undefined ? "no such field" : typeof text}`,
      known.length > 0
        ? `name the field with --text-field (this line has ${known.join(", ")})`
        : "give the line a text field",
    );
  }
  const licence = fields.licence ?? fields.license;
  return {
    text,
    source: `${basename(at.path)}:${at.number}`,
    ...(typeof licence === "string" && licence !== "" ? { licence } : {}),
  };
}

/** Lines of a file, ended by LF alone. Throws naming file and line on invalid UTF-8, a line over the limit, damaged gzip. */
async function* lines(path: string, maxBytes: number): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const file = createReadStream(path);
  // pipeline hands an error of the file on to the stream that is read
  const bytes: Readable = /\.gz$/i.test(path) ? pipeline(file, createGunzip(), () => undefined) : file;
  let number = 1;
  let rest = "";
  const decode = (chunk: Uint8Array | undefined): string => {
    try {
      return decoder.decode(chunk, { stream: chunk !== undefined });
    } catch {
      throw new PlinthError(`${path}:${number}: invalid UTF-8 in or after this line`, "save the file as UTF-8");
    }
  };
  try {
    for await (const chunk of bytes) {
      const parts = (rest + decode(chunk as Uint8Array)).split("\n");
      rest = parts.pop() as string;
      for (const part of parts) {
        number++;
        yield part;
      }
      if (rest.length > maxBytes) {
        throw new PlinthError(
          `${path}:${number}: the line is longer than ${maxBytes} bytes`,
          "write one record per line",
        );
      }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code?.startsWith("Z_") !== true) throw explainReadError(error, path);
    throw new PlinthError(`${path}: damaged gzip (${(error as Error).message})`, "download it again", { cause: error });
  }
  rest += decode(undefined);
  if (rest !== "") yield rest;
}
