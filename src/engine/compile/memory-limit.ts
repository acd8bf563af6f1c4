import { readFileSync } from "node:fs";
import { freemem } from "node:os";
import { PlinthError } from "../../base/index.ts";

/** Memory that a program needs, by purpose, in bytes. */
export interface MemoryNeed {
  readonly inputBytes: number;
  readonly outputBytes: number;
  readonly constantBytes: number;
  readonly arenaBytes: number;
}

/**
 * Memory that the machine can still give, in bytes: MemAvailable of Linux (free memory elsewhere), less where a
 * container sets a limit.
 */
export function availableMemory(): number {
  const machine = memAvailable() ?? freemem();
  const container = process.availableMemory();
  return container > 0 ? Math.min(machine, container) : machine;
}

function memAvailable(): number | undefined {
  try {
    const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
    return match === null ? undefined : Number(match[1]) * 1024;
  } catch {
    return undefined;
  }
}

/**
 * Throws PlinthError when a program cannot fit. PLINTH_MEMORY_LIMIT (bytes) bounds everything that the program touches;
 * without it, what is still to be allocated (outputs and intermediates; the inputs exist) must be available.
 */
export function checkFits(need: MemoryNeed): void {
  const limit = configuredLimit();
  const all = need.inputBytes + need.outputBytes + need.constantBytes + need.arenaBytes;
  const [needed, available] =
    limit === undefined ? [need.outputBytes + need.constantBytes + need.arenaBytes, availableMemory()] : [all, limit];
  if (needed <= available) return;
  const parts = [
    `intermediates ${formatBytes(need.arenaBytes)}`,
    `outputs ${formatBytes(need.outputBytes)}`,
    `inputs ${formatBytes(need.inputBytes)}`,
  ];
  throw new PlinthError(
    `out of memory before start: the program needs ${formatBytes(needed)} (${parts.join(", ")}) but ${
      limit === undefined ? "only" : "PLINTH_MEMORY_LIMIT allows"
    } ${formatBytes(available)}${limit === undefined ? " is available" : ""}`,
    "use a smaller batch size, a shorter context or a smaller model",
  );
}

function configuredLimit(): number | undefined {
  const text = process.env["PLINTH_MEMORY_LIMIT"];
  if (text === undefined || text === "") return undefined;
  const limit = Number(text);
  if (!Number.isFinite(limit) || limit <= 0) {
    throw new PlinthError(`PLINTH_MEMORY_LIMIT: expected a number of bytes, got "${text}"`, "give bytes, or unset it");
  }
  return limit;
}

/** `1.5 GiB`, as people read sizes. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
