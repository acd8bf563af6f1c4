import { createHash, randomBytes } from "node:crypto";
import { createReadStream, existsSync, type PathLike } from "node:fs";
import { type FileHandle, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { PlinthError } from "./error.ts";

/**
 * Writes a file whole: to a temporary name beside it, synced to disk, then renamed into place, then the folder synced.
 * A reader sees the old file or the new one, never a part. Throws PlinthError on a full disk or a read-only folder and
 * leaves the old file as it was.
 */
export async function writeFileAtomic(
  path: string,
  write: string | Uint8Array | ((file: FileHandle) => Promise<void>),
): Promise<void> {
  const folder = dirname(path);
  const temporary = `${path}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    await makeFolder(folder);
    const file = await open(temporary, "wx");
    try {
      if (typeof write === "function") await write(file);
      else await file.writeFile(write);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw explainWriteError(error, path);
  }
}

/**
 * Makes a folder and those above it. Throws PlinthError when that is not possible: a recursive `mkdir` alone reports a
 * read-only file system as "no such file".
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw explainWriteError(error, path);
    let missing = resolve(path);
    while (!existsSync(dirname(missing))) missing = dirname(missing);
    const cause: unknown = await mkdir(missing).then(
      () => error,
      (reason: unknown) => reason,
    );
    throw explainWriteError(cause, path);
  }
}

/** Makes a rename inside the folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function writeJsonAtomic(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, undefined, 2)}\n`);
}

/** Reads JSON. Throws PlinthError naming the file when it is missing or not JSON. */
export async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw explainReadError(error, path);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new PlinthError(
      `${path}: not valid JSON (${(error as Error).message})`,
      "the file is damaged or was edited by hand; write it again",
      { cause: error },
    );
  }
}

const writeFixes: Readonly<Record<string, readonly [problem: string, fix: string]>> = {
  ENOSPC: [
    "the disk is full",
    "free some space and run the same command again (a training run with --resume); what was saved before is intact",
  ],
  EDQUOT: [
    "the disk quota is used up",
    "free some space and run the same command again; what was saved before is intact",
  ],
  ENOENT: ["the folder does not exist and cannot be made", "choose another folder with --out"],
  EROFS: ["the file system is read-only", "choose another folder with --out"],
  EACCES: ["permission denied", "choose a folder that you may write to with --out"],
  EPERM: ["operation not permitted", "choose a folder that you may write to with --out"],
  ENOTDIR: ["a part of the path is a file, not a folder", "choose another folder with --out"],
  EEXIST: ["a part of the path is a file, not a folder", "choose another folder with --out"],
  EFBIG: ["the file is too large for this file system", "choose another folder with --out"],
};

/** Turns an errno of a write into a PlinthError; other errors pass through. */
export function explainWriteError(error: unknown, path: PathLike): unknown {
  if (error instanceof PlinthError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  const known = code === undefined ? undefined : writeFixes[code];
  if (known === undefined) return error;
  return new PlinthError(`cannot write ${path}: ${known[0]}`, known[1], { cause: error });
}

/** Turns an errno of a read into a PlinthError; other errors pass through. */
export function explainReadError(error: unknown, path: PathLike): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT") return new PlinthError(`${path}: no such file or folder`, "check the path", { cause: error });
  if (code === "EISDIR")
    return new PlinthError(`${path}: is a folder, expected a file`, "name the file", { cause: error });
  if (code === "EACCES") return new PlinthError(`${path}: permission denied`, "make it readable", { cause: error });
  return error;
}

/** Hexadecimal sha256 of bytes or text. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Hexadecimal sha256 of a file, read as a stream. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

/** Folder of the installed package (where its package.json is), found from this module. */
export function packageRoot(): string {
  let folder = import.meta.dirname;
  for (;;) {
    try {
      const text = process.getBuiltinModule("node:fs").readFileSync(join(folder, "package.json"), "utf8");
      if ((JSON.parse(text) as { name?: string }).name === "plinth") return folder;
    } catch {
      // no package.json here: look one folder up
    }
    const parent = dirname(folder);
    if (parent === folder) throw new Error(`no package.json of plinth above ${import.meta.dirname}`);
    folder = parent;
  }
}
