/**
 * npm run bench [-- --json] [-- --quick] [-- --only PART,...] [-- --list] [-- NAME ...]: every race in one table. Names choose suites
 * (bench/suites/); default all that do not ask to be named. Figures are medians, the two sides of a race take turns, and
 * a ratio above 1 means better than the peer. Ends with 1 only when a suite fails, which leaves a row that says so.
 */
import { parseArgs } from "node:util";
import type { BenchRow } from "./peer.ts";
import { chooseSuites } from "./suite.ts";
import { formatJson, formatTable } from "./table.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    list: { type: "boolean", default: false },
  },
});
const suites = await chooseSuites(positionals).catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
if (values.list) {
  for (const [name, { summary, onlyByName }] of suites) {
    process.stdout.write(`${name.padEnd(20)} ${summary}${onlyByName === true ? " (only by name)" : ""}\n`);
  }
} else {
  const rows: BenchRow[] = [];
  for (const [name, suite] of suites) {
    process.stderr.write(`running ${name} ...\n`);
    const start = performance.now();
    try {
      rows.push(...(await suite.run({ quick: values.quick, only: values.only?.split(",") })));
    } catch (error) {
      process.stderr.write(`${(error as Error).stack}\n`);
      rows.push({ name, value: Number.NaN, unit: "-", note: `failed: ${(error as Error).message}` });
      process.exitCode = 1;
    }
    process.stderr.write(`${name}: ${((performance.now() - start) / 1000).toFixed(0)} s\n`);
  }
  process.stdout.write(`${values.json ? formatJson(rows) : formatTable(rows)}\n`);
}
