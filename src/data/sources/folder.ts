import { stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { glob, isDynamicPattern } from "tinyglobby";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { allSources, defineSource, type SourceItem, type SourceOptions } from "../source.ts";
import { readTextFile } from "../text-file.ts";

/** Folders of machinery rather than of text. Hidden files are left out too; a path that names them is honoured. */
const ignored = ["**/node_modules/**", "**/.git/**"];

/**
 * A folder, a file or a glob of text and code, one record per file. JSONL and Parquet files met on the way go to their
 * own sources; binary files and invalid UTF-8 are skipped and counted.
 */
export const source = defineSource({
  name: "folder",
  claims: () => true,
  async *read(from, options) {
    const { root, files } = await listFiles(from, options);
    const others = (await allSources()).filter((other) => other.name !== "folder");
    for (const file of files) {
      options.signal?.throwIfAborted();
      if (options.exclude !== undefined && file.startsWith(join(options.exclude, sep))) continue;
      const name = relative(root, file).split(sep).join("/");
      const other = others.find((candidate) => candidate.claims(file));
      if (other !== undefined) {
        const prefix = name.slice(0, name.length - basename(name).length);
        for await (const item of other.read(file, options)) yield { ...item, source: prefix + item.source };
      } else {
        yield { ...(await readTextFile(file, options.maxFileBytes)), source: name } satisfies SourceItem;
      }
    }
  },
});

async function listFiles(from: string, options: SourceOptions): Promise<{ root: string; files: string[] }> {
  const path = resolve(options.cwd, from);
  const info = await stat(path).catch((error: unknown) => error as NodeJS.ErrnoException);
  if (info instanceof Error) {
    if (!isDynamicPattern(from)) throw explainReadError(info, path);
    const pattern = from.split(sep).join("/");
    const files = await glob(pattern, { cwd: options.cwd, absolute: true, ignore: ignored });
    if (files.length === 0)
      throw new PlinthError(`${from}: the pattern matches no file`, "check the pattern and quote it in the shell");
    return { root: resolve(options.cwd, staticPrefix(pattern)), files: files.sort() };
  }
  if (info.isFile()) return { root: dirname(path), files: [path] };
  const files = await glob("**/*", { cwd: path, absolute: true, ignore: ignored }).catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  return { root: path, files: files.map((file) => join(file)).sort() };
}

/** The leading folders of a pattern that contain no wildcard, so that names do not depend on where the tree lies. */
function staticPrefix(pattern: string): string {
  const parts = pattern.split("/");
  const wild = parts.findIndex((part) => isDynamicPattern(part));
  return parts.slice(0, wild).join("/") || (pattern.startsWith("/") ? "/" : ".");
}
