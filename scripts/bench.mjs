// Compiles the benches and runs them: node scripts/bench.mjs [--json] [name ...]
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
const compiled = spawnSync(process.execPath, [tsc, "-p", join(root, "tsconfig.test.json")], {
  stdio: ["inherit", 2, 2],
});
if (compiled.status !== 0) process.exit(compiled.status ?? 1);
const main = join(root, "dist-test", "bench", "main.js");
const result = spawnSync(process.execPath, [main, ...process.argv.slice(2)], { stdio: "inherit" });
process.exit(result.status ?? 1);
