import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "../src/base/index.ts";

const extension = import.meta.filename.endsWith(".ts") ? "ts" : "js";
const mainFile = join(import.meta.dirname, "..", "src", "cli", `main.${extension}`);

/** Runs a program to its end and gives its standard output; throws when it fails. */
export function run(program: string, args: readonly string[]): string {
  const { status, stdout, error } = spawnSync(program, args, {
    encoding: "utf8",
    maxBuffer: Number.POSITIVE_INFINITY,
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} failed: ${error?.message ?? `exit code ${status}`}`);
  return stdout;
}

/** Runs `plinth` as a user does. */
export function plinth(...args: readonly string[]): string {
  return run(process.execPath, [mainFile, ...args]);
}

/** The test assets (`PLINTH_ASSETS`). */
export const assets = process.env["PLINTH_ASSETS"] ?? join(packageRoot(), "..", "shared", "assets");

/** The text of nanoGPT's character-level recipe. */
export const shakespeareText = join(assets, "text", "tinyshakespeare", "input.txt");
