import { groupItems, ratioEstimate, type TaskResult } from "../evaluate/index.ts";

/** Flag of the commands that measure tasks. */
export const byGroupOption = {
  "by-group": { type: "boolean", summary: "each task by its parts too: phenomena of blimp, difficulties of skills" },
} as const;

/** A result, or the part of it that is of one group. */
export interface ResultRow {
  readonly name: string;
  readonly group?: string;
  readonly metric: string;
  readonly value: number;
  readonly standardError: number | null;
  readonly count: number;
}

/** Results with, where asked for, the groups of each behind it. Groups of perplexity are left out: its scale is another. */
export function resultRows(results: readonly TaskResult[], byGroup: boolean): ResultRow[] {
  return results.flatMap((result): ResultRow[] => {
    const { name, metric, value, standardError, count, items } = result;
    const whole: ResultRow = { name, metric, value, standardError: standardError ?? null, count };
    if (!byGroup || metric === "perplexity") return [whole];
    const parts = groupItems(items, name).map(({ group, items }): ResultRow => {
      const { value, standardError } = ratioEstimate(items);
      return { name, group, metric, value, standardError: standardError ?? null, count: items.length };
    });
    return parts.length < 2 ? [whole] : [whole, ...parts];
  });
}

/** Columns aligned, numbers to the right. */
export function resultTable(results: readonly ResultRow[]): string {
  const rows = [
    ["task", "metric", "value", "standard error", "items"],
    ...results.map(({ name, group, metric, value, standardError, count }) => [
      group === undefined ? name : `  ${group}`,
      metric,
      value.toFixed(4),
      standardError === null ? "(one unit)" : standardError.toFixed(4),
      `${count}`,
    ]),
  ];
  const widths = (rows[0] as string[]).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] as string).length)),
  );
  const isNumber = (column: number) => column >= 2;
  const pad = (cell: string, column: number) =>
    isNumber(column) ? cell.padStart(widths[column] as number) : cell.padEnd(widths[column] as number);
  return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}
