import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after } from "node:test";

/** Where package.json is, wherever the compiled test runs. */
export const repositoryRoot = (() => {
  let folder = import.meta.dirname;
  while (!isRoot(folder)) folder = dirname(folder);
  return folder;
})();

function isRoot(folder: string): boolean {
  const path = join(folder, "package.json");
  return existsSync(path) && (JSON.parse(readFileSync(path, "utf8")) as { name?: string }).name === "plinth";
}

const assets = resolve(repositoryRoot, process.env["PLINTH_ASSETS"] ?? "../shared/assets");

/** Path of an asset. */
export function asset(path: string): string {
  return join(assets, path);
}

/** For node:test's `skip`: a reason when the assets are not on this machine. */
export const withoutAssets: string | false = existsSync(assets) ? false : `no assets at ${assets} (set PLINTH_ASSETS)`;

/** A new empty folder that is removed after the file's tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "plinth-data-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
