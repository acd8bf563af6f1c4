import {
  groupProfile,
  type MachineLimits,
  operationName,
  type ProfileEntry,
  type ProfileGroup,
} from "../../engine/index.ts";

/** A measured step and what its kernels did in it. */
export interface ProfiledStep {
  readonly title: string;
  /** Of a run from call to result: the mean, like the kernels' times. */
  readonly seconds: number;
  readonly tokens: number;
  readonly compileSeconds: number;
  readonly peakBytes: number;
  readonly runs: number;
  readonly entries: readonly ProfileEntry[];
}

/** Where a step's time goes, as the one JSON document. */
export function profileDocument(step: ProfiledStep, limits: MachineLimits): object {
  const { entries, ...figures } = step;
  return {
    ...figures,
    kernelSeconds: kernelSeconds(entries),
    limits,
    kernels: groupProfile(entries, ({ kernel }) => kernel, limits),
    operations: groupProfile(entries, operationName, limits),
    instructions: entries,
  };
}

/** The same as two tables: by kernel, and by operation (at most `rows` of these). */
export function profileTables(step: ProfiledStep, limits: MachineLimits, rows: number): string {
  const { entries } = step;
  const kernels = groupProfile(entries, ({ kernel }) => kernel, limits);
  const operations = groupProfile(entries, operationName, limits);
  const outside = step.seconds - kernelSeconds(entries);
  const least = kernels.reduce((sum, group) => sum + (group.leastSeconds ?? 0), 0);
  const left = operations.length - rows;
  return [
    step.title,
    `${milliseconds(step.seconds)} a step (mean of ${step.runs}), ${(step.tokens / step.seconds).toFixed(step.tokens / step.seconds < 100 ? 1 : 0)} tokens/s; ${milliseconds(outside)} of it outside kernels; at the machine's limits the kernels would take ${milliseconds(least)}`,
    `limits: ${limits.gflops.toFixed(0)} GFLOP/s float32, ${limits.bfloat16Gflops.toFixed(0)} bfloat16, ${limits.gigabytesPerSecond.toFixed(1)} GB/s`,
    "",
    groupTable("kernel", kernels),
    "",
    groupTable("operation", operations.slice(0, rows)),
    ...(left > 0 ? [`... and ${left} more (--rows)`] : []),
    "",
    "calls and ms of one step; GFLOP/s of products, GB/s when every operand moves once (more than the limit: from caches);",
    "of limit: the least time by products or memory, whichever is longer, over the time taken",
  ].join("\n");
}

/** Seconds of all kernels in one run. */
function kernelSeconds(entries: readonly ProfileEntry[]): number {
  return entries.reduce((sum, { seconds, calls }) => sum + (calls === 0 ? 0 : seconds / calls), 0);
}

function groupTable(what: string, groups: readonly ProfileGroup[]): string {
  const header = [what, "calls", "ms", "share", "GFLOP/s", "GB/s", "of limit"];
  const cells = groups.map(({ name, calls, seconds, share, flops, bytes, leastSeconds = 0 }) => [
    name,
    String(calls),
    (seconds * 1e3).toFixed(2),
    percent(share),
    flops === 0 || seconds === 0 ? "" : (flops / seconds / 1e9).toFixed(0),
    seconds === 0 ? "" : (bytes / seconds / 1e9).toFixed(1),
    seconds === 0 ? "" : percent(leastSeconds / seconds),
  ]);
  return alignColumns([header, ...cells]);
}

/** Rows of cells as lines: the first column to the left, the others to the right. */
export function alignColumns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;
}

export function milliseconds(seconds: number): string {
  return `${(seconds * 1e3).toFixed(seconds < 0.1 ? 2 : 0)} ms`;
}
