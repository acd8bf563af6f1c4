import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { packageRoot } from "../src/base/index.ts";

const root = resolve(packageRoot(), process.env["PLINTH_ASSETS"] ?? "../shared/assets");

/**
 * Path of a file of the test assets. Missing assets are an error in CI and a skip elsewhere:
 * `test(name, { skip: skipWithout("text/botchan/botchan.txt") }, ...)`.
 */
export function asset(path: string): string {
  const file = join(root, path);
  if (!existsSync(file)) throw new Error(`test asset ${path} is missing under ${root}. Fix: set PLINTH_ASSETS.`);
  return file;
}

/** A reason to skip, or false when all assets are there. Throws in CI. */
export function skipWithout(...paths: readonly string[]): string | false {
  const absent = paths.find((path) => !existsSync(join(root, path)));
  if (absent === undefined) return false;
  if (process.env["CI"] !== undefined) asset(absent);
  return `test asset ${absent} is missing (set PLINTH_ASSETS)`;
}
