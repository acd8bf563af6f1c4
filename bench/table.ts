import type { BenchRow } from "./peer.ts";

/** Columns: name, ours, unit, peer, theirs, ratio, target, remark. */
export function formatTable(rows: readonly BenchRow[]): string {
  const cells = [
    ["what", "plinth", "unit", "peer", "peer's", "ratio", "target", ""],
    ...rows.map((row) => [
      row.name,
      formatNumber(row.value),
      row.unit,
      row.peer ?? "-",
      row.peerValue === undefined ? "-" : formatNumber(row.peerValue),
      row.ratio === undefined ? "-" : `${row.ratio.toFixed(2)} x`,
      row.target === undefined ? "-" : `${Number(row.target.toPrecision(3))} x`,
      [verdict(row), row.note].filter((text) => text !== undefined).join("; "),
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

function verdict({ target, ratio }: BenchRow): string | undefined {
  if (target === undefined || ratio === undefined) return undefined;
  return ratio >= target ? "reached" : "MISSED";
}

/** `{"results": [...]}`; what a row does not have is null. */
export function formatJson(rows: readonly BenchRow[]): string {
  const results = rows.map(({ name, value, unit, peer, peerValue, ratio, target, note }) => ({
    name,
    value: finite(value),
    unit,
    peer: peer ?? null,
    peerValue: finite(peerValue),
    ratio: finite(ratio),
    target: target ?? null,
    ...(note === undefined ? {} : { note }),
  }));
  return JSON.stringify({ results }, undefined, 2);
}

function finite(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? value : null;
}

function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return "-";
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
