import type { ProfileEntry } from "./backends/index.ts";
import type { MachineLimits } from "./host-info.ts";

/** Kernel calls taken together; figures are those of one run. */
export interface ProfileGroup {
  readonly name: string;
  /** Kernel calls of a run. */
  readonly calls: number;
  readonly seconds: number;
  /** Of the time of all kernels, 0 to 1. */
  readonly share: number;
  /** Of products. */
  readonly flops: number;
  readonly bytes: number;
  /** Seconds that the machine's limits allow: the longer of multiplying and moving, call by call. Absent without limits. */
  readonly leastSeconds?: number;
}

/**
 * A profile summed up by whatever `name` says of an entry, longest first. Entries that never ran are left out. With the
 * machine's limits, every group also has the least time its calls could take.
 */
export function groupProfile(
  entries: readonly ProfileEntry[],
  name: (entry: ProfileEntry) => string,
  limits?: MachineLimits,
): ProfileGroup[] {
  const groups = new Map<string, { calls: number; seconds: number; flops: number; bytes: number; least: number }>();
  let total = 0;
  for (const entry of entries) {
    if (entry.calls === 0) continue;
    const key = name(entry);
    const group = groups.get(key) ?? { calls: 0, seconds: 0, flops: 0, bytes: 0, least: 0 };
    groups.set(key, group);
    const seconds = entry.seconds / entry.calls;
    total += seconds;
    group.calls += 1;
    group.seconds += seconds;
    group.flops += entry.flops;
    group.bytes += entry.bytes;
    if (limits !== undefined) group.least += leastSeconds(entry, limits);
  }
  return [...groups]
    .map(([key, { calls, seconds, flops, bytes, least }]) => ({
      name: key,
      calls,
      seconds,
      share: total === 0 ? 0 : seconds / total,
      flops,
      bytes,
      ...(limits === undefined ? {} : { leastSeconds: least }),
    }))
    .sort((a, b) => b.seconds - a.seconds);
}

/** The longer of what its products and its memory traffic take at the machine's limits. */
function leastSeconds({ flops, bytes, operands }: ProfileEntry, limits: MachineLimits): number {
  const gflops = operands === "bfloat16" ? limits.bfloat16Gflops : limits.gflops;
  return Math.max(flops / gflops, bytes / limits.gigabytesPerSecond) / 1e9;
}

/** `h.3.attn: matmul` and `h.4.attn: matmul` as one: `h.*.attn: matmul`, with the operands. */
export function operationName({ label, shapes, operands }: ProfileEntry): string {
  const text = label.replaceAll(/(^|\.)\d+(?=[.:]|$)/g, "$1*");
  const precision = operands === "bfloat16" ? " bf16" : "";
  return shapes === "" ? text : `${text}  ${shapes}${precision}`;
}

/** A program's profile under the name it goes by in a trace. */
export interface NamedProfile {
  readonly name: string;
  readonly entries: readonly ProfileEntry[];
}

/**
 * The last run of each program in the Trace Event Format (JSON object form) that chrome://tracing and Perfetto read: one
 * complete event per kernel call on the engine's thread, programs one after another.
 */
export function chromeTrace(programs: readonly NamedProfile[]): object {
  const events: object[] = [
    { name: "process_name", ph: "M", pid: 1, tid: 1, args: { name: "plinth" } },
    { name: "thread_name", ph: "M", pid: 1, tid: 1, args: { name: "engine" } },
  ];
  let origin = 0;
  for (const { name, entries } of programs) {
    const ran = entries.filter(({ calls }) => calls > 0);
    const end = ran.reduce((last, entry) => Math.max(last, entry.lastStart + entry.lastSeconds), 0);
    events.push(complete(name, "program", origin, end, {}));
    for (const { label, kernel, lastStart, lastSeconds, flops, bytes, shapes } of ran) {
      const perSecond = (amount: number): number => Number((amount / lastSeconds / 1e9).toPrecision(4));
      events.push(
        complete(label, kernel, origin + lastStart, lastSeconds, {
          kernel,
          shapes,
          bytes,
          "GB/s": perSecond(bytes),
          ...(flops === 0 ? {} : { flops, "GFLOP/s": perSecond(flops) }),
        }),
      );
    }
    origin += end;
  }
  return { displayTimeUnit: "ms", traceEvents: events };
}

/** Times in seconds; the format wants microseconds. */
function complete(name: string, category: string, start: number, seconds: number, args: object): object {
  return { name, cat: category, ph: "X", pid: 1, tid: 1, ts: start * 1e6, dur: seconds * 1e6, args };
}
