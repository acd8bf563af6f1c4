// Compiles and runs the test suite: node scripts/test.mjs [filter ...]. A filter is a part of a test file's path.
// Ends with "N passed, N failed" and exits 1 when anything failed.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

const root = join(import.meta.dirname, "..");
const out = join(root, "dist-test");
rmSync(out, { recursive: true, force: true });
const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
const compiled = spawnSync(process.execPath, [tsc, "-p", join(root, "tsconfig.test.json")], { stdio: "inherit" });
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

function testFiles(folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return testFiles(path);
    return name.endsWith(".test.js") ? [path] : [];
  });
}

const filters = process.argv.slice(2);
const files = testFiles(join(out, "test"))
  .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
  .sort();
if (files.length === 0) {
  console.error(`no test file matches ${filters.join(", ")}`);
  process.exit(1);
}

const counts = { passed: 0, failed: 0, skipped: 0 };
const isTest = (event) => event.details?.type !== "suite" && !files.includes(event.name);
const stream = run({ files, concurrency: 1, timeout: 15 * 60_000 });
stream.on("test:pass", (event) => {
  if (!isTest(event)) return;
  if (event.skip !== undefined || event.todo !== undefined) {
    counts.skipped++;
    console.log(`skipped: ${event.name}: ${event.skip}`);
  } else counts.passed++;
});
stream.on("test:fail", (event) => {
  if (event.details?.type !== "suite" || event.details?.error?.failureType !== "subtestsFailed") counts.failed++;
});
stream.compose(spec).pipe(process.stdout, { end: false });
stream.once("end", () => {
  // after the reporter has flushed: the closing line is the last
  setImmediate(() =>
    setTimeout(() => {
      const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
      process.stdout.write(`${counts.passed} passed, ${counts.failed} failed${skipped}\n`);
      process.exitCode = counts.failed > 0 ? 1 : 0;
    }, 200),
  );
});
