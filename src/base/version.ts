import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "./files.ts";

/** Version of the installed package, e.g. `0.1.0`; stored in every artifact. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }).version;
}
