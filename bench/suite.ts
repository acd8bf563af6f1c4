import { readdirSync } from "node:fs";
import { join } from "node:path";
import { nearestName, PlinthError } from "../src/base/index.ts";
import type { BenchRow } from "./peer.ts";

/** A race or a measurement. Adding one is adding a file to bench/suites/ that exports it as `suite`; its name is the file's. */
export interface Suite {
  /** What is measured against what, in a line. */
  readonly summary: string;
  /**
   * Rows of the table. A peer that is not installed is a row with a note, not an error. The two sides take turns, figures
   * are medians.
   */
  readonly run: (options: SuiteOptions) => Promise<readonly BenchRow[]>;
  /** Runs only when it is asked for by name: because it takes long, or because it writes files. */
  readonly onlyByName?: boolean;
}

export interface SuiteOptions {
  /** Fewer rounds and smaller sizes: to see that it works, not to quote. */
  readonly quick: boolean;
  /** Only these parts of a suite that has parts: `architectures` model types. All when absent. */
  readonly only?: readonly string[] | undefined;
}

const folder = join(import.meta.dirname, "suites");

/** Names of all suites, in alphabetical order. */
export function suiteNames(): string[] {
  const files = readdirSync(folder).filter((file) => /\.(js|ts)$/.test(file) && !file.endsWith(".d.ts"));
  return files.map((file) => file.replace(/\.(js|ts)$/, "")).sort();
}

export async function loadSuite(name: string): Promise<Suite> {
  const extension = import.meta.filename.endsWith(".ts") ? "ts" : "js";
  return ((await import(join(folder, `${name}.${extension}`))) as { suite: Suite }).suite;
}

/** The suites named, or all that run unasked. Throws on a name that there is not. */
export async function chooseSuites(names: readonly string[]): Promise<(readonly [string, Suite])[]> {
  const known = suiteNames();
  for (const name of names) {
    if (known.includes(name)) continue;
    const near = nearestName(name, known);
    throw new PlinthError(
      `no bench "${name}"; ${near === undefined ? `there are ${known.join(", ")}` : `did you mean ${near}?`}`,
    );
  }
  const loaded = await Promise.all(known.map(async (name) => [name, await loadSuite(name)] as const));
  return loaded.filter(([name, suite]) => (names.length > 0 ? names.includes(name) : suite.onlyByName !== true));
}
