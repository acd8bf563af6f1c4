// Ops with random arguments: node scripts/fuzz-ops.mjs [--minutes 10] [--seed 1] [--op NAME]. Through the compiler, on
// the native backend and on WebAssembly in turn, against the float64 oracle; then programs with hostile numbers in them,
// straight to the runner (npm run test:sanitize does the same with a sanitizer watching). Fails at the end, with all it found.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { buildDriver, compileTests, hostIsa, writeCases } from "./native-driver.mjs";

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const seconds = Number(option("minutes", "10")) * 60;
let seed = Number(option("seed", "1"));
const op = option("op");
const js = compileTests();
if (js === undefined) process.exit(1);
const load = (path) => import(pathToFileURL(join(js, path)).href);
const { fuzzOps } = await load("test/engine/op-fuzz.js");
const { createBackend } = await load("src/engine/index.js");

const total = { equal: 0, refused: 0 };
const failures = [];
const started = performance.now();
const elapsed = () => (performance.now() - started) / 1000;
const driver = op === undefined ? buildDriver("plain", hostIsa()) : undefined;
for (; elapsed() < seconds; seed++) {
  for (const [name, share] of [
    ["native", 20],
    ["wasm", 5],
  ]) {
    const result = await fuzzOps(createBackend(name), { seed, seconds: Math.min(share, seconds), op });
    total.equal += result.equal;
    total.refused += result.refused;
    failures.push(...result.failures.map((text) => `${name}: ${text}`));
  }
  if (driver !== undefined) {
    const hostile = writeCases(js, "hostile", { seed, count: 2000 });
    const run = spawnSync(driver, [hostile, "--isolate", "--threads", "1,2"], { encoding: "utf8" });
    process.stdout.write(run.stdout.split("\n").slice(-2).join("\n"));
    failures.push(...run.stdout.split("\n").filter((line) => line.startsWith("FAILED")));
  }
  console.log(`${elapsed().toFixed(0)} s: ${total.equal} equal, ${total.refused} refused, ${failures.length} failures`);
}
for (const text of failures.slice(0, 100)) console.error(text);
process.exit(failures.length > 0 ? 1 : 0);
