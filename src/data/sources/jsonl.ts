import { createReadStream } from "node:fs";
import { basename, resolve } from "node:path";
import { createInterface } from "node:readline";
import { type Readable, Transform } from "node:stream";
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
    throw new PlinthError(`${where}: expected an object, got ${JSON.stringify(record).slice(0, 40)}`, "write one object per line");
  }
  const fields = record as Record<string, unknown>;
  const text = fields[field];
  if (typeof text !== "string") {
    const known = Object.keys(fields).filter((key) => typeof fields[key] === "string");
    throw new PlinthError(
      `${where}: expected text in the field "${field}", got ${text === undefined ? "no such field" : typeof text}`,
      known.length > 0 ? `name the field with --text-field (this line has ${known.join(", ")})` : "give the line a text field",
    );
  }
  const licence = fields["licence"] ?? fields["license"];
  return {
    text,
    source: `${basename(at.path)}:${at.number}`,
    ...(typeof licence === "string" && licence !== "" ? { licence } : {}),
  };
}

/** Lines of a file, UTF-8 checked. Throws naming the file and line when a line has invalid UTF-8 or is over the limit. */
async function* lines(path: string, maxBytes: number): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let number = 1;
  let length = 0;
  const check = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        const text = decoder.decode(chunk, { stream: true });
        const breaks = text.split("\n");
        number += breaks.length - 1;
        length = breaks.length > 1 ? (breaks.at(-1) as string).length : length + text.length;
        if (length > maxBytes) {
          done(new PlinthError(`${path}:${number}: the line is longer than ${maxBytes} bytes`, "write one record per line"));
        } else {
          done(null, text);
        }
      } catch {
        done(new PlinthError(`${path}: invalid UTF-8 near line ${number}`, "save the file as UTF-8"));
      }
    },
  });
  const file = createReadStream(path);
  const stages: Readable[] = /\.gz$/i.test(path) ? [file, createGunzip(), check] : [file, check];
  let failure: unknown;
  for (const stage of stages) {
    stage.on("error", (error: unknown) => {
      failure ??= error;
      check.destroy();
    });
  }
  for (let i = 1; i < stages.length; i++) (stages[i - 1] as Readable).pipe(stages[i] as Transform);
  try {
    for await (const line of createInterface({ input: check, crlfDelay: Number.POSITIVE_INFINITY })) yield line;
  } finally {
    for (const stage of stages) stage.destroy();
  }
  if (failure !== undefined) {
    const code = (failure as NodeJS.ErrnoException).code ?? "";
    if (code.startsWith("Z_")) throw new PlinthError(`${path}: damaged gzip (${(failure as Error).message})`, "download it again");
    throw explainReadError(failure, path);
  }
}
