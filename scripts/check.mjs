// Everything that CI checks, in order: node scripts/check.mjs [--no-test]. Each step's output is shown only as it happens.
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const bin = (name) => join(root, "node_modules", ".bin", name);
const steps = [
  ["types", bin("tsc"), ["-p", "tsconfig.json", "--noEmit"]],
  ["types of tests and benches", bin("tsc"), ["-p", "tsconfig.test.json", "--noEmit"]],
  ["lint and format", bin("biome"), ["ci", "--error-on-warnings"]],
  ["layers", bin("depcruise"), ["--config", ".dependency-cruiser.mjs", "src"]],
  ["tests", process.execPath, ["scripts/test.mjs"]],
];
const wanted = process.argv.includes("--no-test") ? steps.slice(0, -1) : steps;
for (const [name, command, args] of wanted) {
  console.log(`\n== ${name}`);
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) {
    console.error(`check failed: ${name} (${[command.replace(`${root}/`, ""), ...args].join(" ")})`);
    process.exit(1);
  }
}
