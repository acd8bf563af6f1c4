import { PlinthError } from "../base/index.ts";

/** What a program may use. */
export interface SandboxLimits {
  /** Seconds from start to end. */
  readonly wallSeconds: number;
  /** Seconds of processor time, of each process. */
  readonly cpuSeconds: number;
  /** Memory of all its processes together. */
  readonly memoryBytes: number;
  /** Processes and threads at a time (Node starts with about a dozen threads). */
  readonly processes: number;
  /** Standard output and standard error together. */
  readonly outputBytes: number;
  /** What it may write to its temporary folder, the one place that can be written to. */
  readonly fileBytes: number;
}

export const defaultLimits: SandboxLimits = Object.freeze({
  wallSeconds: 10,
  cpuSeconds: 10,
  memoryBytes: 512 * 2 ** 20,
  processes: 32,
  outputBytes: 2 ** 20,
  fileBytes: 32 * 2 ** 20,
});

/** The defaults with changes. Throws PlinthError naming a limit that is not positive. */
export function resolveLimits(changes: Partial<SandboxLimits> = {}): SandboxLimits {
  const limits = { ...defaultLimits, ...changes };
  for (const [name, value] of Object.entries(limits)) {
    if (Number.isFinite(value) && value > 0) continue;
    throw new PlinthError(`sandbox: ${name} is ${value}`, "give a number above 0");
  }
  return limits;
}
