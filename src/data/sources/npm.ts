import { readdir, readFile, realpath } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { glob } from "tinyglobby";
import { PlinthError, packageRoot } from "../../base/index.ts";
import { licenceOfPackage } from "../licence.ts";
import { defineSource } from "../source.ts";
import { readTextFile } from "../text-file.ts";

interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  readonly licence: string;
  readonly folder: string;
}

/**
 * The TypeScript and Markdown of the installed npm packages: every `node_modules` from the working folder upwards and
 * from Plinth's own install upwards, nested ones included. Each record carries the package, its version and the SPDX
 * licence that its package.json declares.
 */
export const source = defineSource({
  name: "npm",
  claims: (from) => from === "npm",
  async *read(_from, options) {
    const packages = await installedPackages([options.cwd, packageRoot()]);
    if (packages.length === 0) {
      throw new PlinthError(
        `npm: no installed packages found from ${options.cwd}`,
        "run npm install first, or name a folder with --from",
      );
    }
    for (const { name, version, licence, folder } of packages) {
      const files = await glob("**/*.{ts,mts,cts,tsx,md}", { cwd: folder, ignore: ["**/node_modules/**"], dot: false });
      for (const file of files.map((path) => path.split(sep).join("/")).sort()) {
        options.signal?.throwIfAborted();
        yield {
          ...(await readTextFile(join(folder, file), options.maxFileBytes)),
          source: `${name}@${version}/${file}`,
          licence,
          collection: { name: `${name}@${version}`, url: `https://www.npmjs.com/package/${name}/v/${version}` },
        };
      }
    }
  },
});

/** Packages visible from the folders, ordered by name and version; one copy of each version. */
export async function installedPackages(from: readonly string[]): Promise<InstalledPackage[]> {
  const found = new Map<string, InstalledPackage>();
  const seen = new Set<string>();
  const visit = async (modules: string): Promise<void> => {
    const real = await realpath(modules).catch(() => undefined);
    if (real === undefined || seen.has(real)) return;
    seen.add(real);
    for (const folder of await packageFolders(real)) {
      const description = await describe(folder);
      if (description !== undefined) found.set(`${description.name}@${description.version}`, description);
      await visit(join(folder, "node_modules"));
    }
  };
  for (const start of from) {
    for (let folder = start; ; folder = dirname(folder)) {
      await visit(join(folder, "node_modules"));
      if (dirname(folder) === folder) break;
    }
  }
  return [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, description]) => description);
}

async function packageFolders(modules: string): Promise<string[]> {
  const folders: string[] = [];
  for (const entry of (await readdir(modules)).sort()) {
    if (entry.startsWith(".")) continue;
    const folder = join(modules, entry);
    if (entry.startsWith("@")) {
      for (const inner of (await readdir(folder).catch(() => [])).sort()) folders.push(join(folder, inner));
    } else {
      folders.push(folder);
    }
  }
  return folders;
}

async function describe(folder: string): Promise<InstalledPackage | undefined> {
  try {
    const manifest = JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as Record<string, unknown>;
    const real = await realpath(folder);
    const name = typeof manifest.name === "string" ? manifest.name : relative(dirname(folder), folder);
    const version = typeof manifest.version === "string" ? manifest.version : "0.0.0";
    return { name, version, licence: licenceOfPackage(manifest), folder: real };
  } catch {
    return undefined; // not a package: no package.json, or a broken one
  }
}
