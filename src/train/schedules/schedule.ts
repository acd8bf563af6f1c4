import { nearestName, PlinthError } from "../../base/index.ts";

/** Learning rate over a run. One file per schedule registers itself with {@link defineSchedule}. */
export interface Schedule {
  readonly name: string;
  /** Learning rate of a step. `step` counts from 1 to `steps`. Pure: resuming needs no state. */
  rate(step: number, options: ScheduleOptions): number;
}

export interface ScheduleOptions {
  /** Peak learning rate. */
  readonly lr: number;
  /** Where the schedule ends; each schedule says its default in its docstring. */
  readonly minLr?: number;
  readonly steps: number;
  /** Steps of linear warmup from near 0 to `lr`; default 0. */
  readonly warmupSteps?: number;
  /** Steps of the final decay, for schedules that have one. */
  readonly decaySteps?: number;
}

const registry = new Map<string, Schedule>();

/** Registers a schedule. Throws when the name is taken. */
export function defineSchedule(schedule: Schedule): Schedule {
  if (registry.has(schedule.name)) throw new Error(`defineSchedule: "${schedule.name}" is defined twice.`);
  registry.set(schedule.name, schedule);
  return schedule;
}

/** Names of all schedules, in order of definition. */
export function scheduleNames(): string[] {
  return [...registry.keys()];
}

/** The schedule of that name. Throws PlinthError naming the nearest. */
export function findSchedule(name: string): Schedule {
  const schedule = registry.get(name);
  if (schedule !== undefined) return schedule;
  const near = nearestName(name, registry.keys());
  throw new PlinthError(
    `schedule "${name}" is not known`,
    `use ${near === undefined ? `one of ${scheduleNames().join(", ")}` : `"${near}"`}`,
  );
}

/**
 * Linear warmup as nanoGPT has it: step 1 already learns, and the step after the warmup is at the full rate.
 * Undefined once the warmup is over.
 */
export function warmupRate(step: number, { lr, warmupSteps = 0 }: ScheduleOptions): number | undefined {
  return step <= warmupSteps ? (lr * step) / (warmupSteps + 1) : undefined;
}
