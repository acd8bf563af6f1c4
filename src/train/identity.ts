import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PlinthError, packageRoot, packageVersion } from "../base/index.ts";
import type { JsonValue } from "../data/index.ts";

type JsonObject = Readonly<Record<string, JsonValue>>;

/** Version of the code, and of the checkout where it runs from one. */
export function codeVersion(): string {
  const version = packageVersion();
  const commit = headCommit(join(packageRoot(), ".git"));
  return commit === undefined ? version : `${version}+${commit.slice(0, 12)}`;
}

/** Throws PlinthError naming the first field in which a resumed run differs from the one that was saved. */
export function checkSameRun(saved: JsonObject, now: JsonObject, where: string): void {
  const before = new Map(leaves(saved));
  const after = new Map(leaves(now));
  for (const field of new Set([...before.keys(), ...after.keys()])) {
    const [a, b] = [before.get(field), after.get(field)];
    if (a === b) continue;
    throw new PlinthError(
      `--resume: "${field}" is ${show(b)} now, but the run in ${where} was started with ${show(a)}`,
      "give the values it was started with, or start a new run in another --out",
    );
  }
}

/** Dotted paths and JSON texts of the leaves. */
function leaves(value: JsonValue, path = ""): [string, string][] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [[path, JSON.stringify(value)]];
  return Object.entries(value)
    .filter(([, child]) => child !== undefined)
    .flatMap(([key, child]) => leaves(child, path === "" ? key : `${path}.${key}`));
}

function show(json: string | undefined): string {
  return json ?? "not given";
}

function headCommit(git: string): string | undefined {
  try {
    const head = readFileSync(join(git, "HEAD"), "utf8").trim();
    if (!head.startsWith("ref: ")) return head;
    return readFileSync(join(git, head.slice(5)), "utf8").trim();
  } catch {
    return undefined;
  }
}
