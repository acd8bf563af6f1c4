import type { BenchRow } from "./peer.ts";

/**
 * npm run bench [-- --json] [-- NAME ...]: every race in one table. Names choose suites; default all. Figures are medians, the two sides of
 * a race alternate, and a ratio above 1 means better than the peer.
 */
const suites: Readonly<Record<string, () => Promise<readonly BenchRow[]>>> = {
  matmul: async () => (await import("./matmul.ts")).benchMatmul(),
  "gpt-step": async () => (await import("./gpt-step.ts")).benchGptStep(),
  "event-loop": async () => (await import("./event-loop.ts")).benchEventLoop(),
};

async function main(argv: readonly string[]): Promise<void> {
  const json = argv.includes("--json");
  const names = argv.filter((name) => !name.startsWith("--"));
  const unknown = names.find((name) => suites[name] === undefined);
  if (unknown !== undefined) throw new Error(`no bench "${unknown}"; there are ${Object.keys(suites).join(", ")}`);
  const results: BenchRow[] = [];
  for (const [name, suite] of Object.entries(suites)) {
    if (names.length > 0 && !names.includes(name)) continue;
    process.stderr.write(`running ${name} ...\n`);
    results.push(...(await suite()));
  }
  if (json) process.stdout.write(`${JSON.stringify({ results }, undefined, 2)}\n`);
  else process.stdout.write(`${formatTable(results)}\n`);
}

/** Columns: name, ours, unit, peer, theirs, ratio, target. */
export function formatTable(rows: readonly BenchRow[]): string {
  const cells = [
    ["what", "plinth", "unit", "peer", "peer's", "ratio", "target", ""],
    ...rows.map((row) => [
      row.name,
      number(row.value),
      row.unit,
      row.peer ?? "-",
      row.peerValue === undefined ? "-" : number(row.peerValue),
      row.ratio === undefined ? "-" : `${row.ratio.toFixed(2)} x`,
      row.target === undefined ? "-" : `${row.target} x`,
      row.note ??
        (row.target === undefined || row.ratio === undefined ? "" : row.ratio >= row.target ? "reached" : "MISSED"),
    ]),
  ];
  const widths = (cells[0] as string[]).map((_, i) => Math.max(...cells.map((row) => (row[i] as string).length)));
  return cells
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] as number))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

await main(process.argv.slice(2));
