import { PlinthError } from "../base/index.ts";
import { type Estimate, type ItemScore, pairedDifference, ratioEstimate } from "./statistics.ts";
import type { Task } from "./task.ts";

/** Which way is better. */
export type Direction = "higher" | "lower";

/** One metric of one task. */
export interface TaskResult {
  readonly name: string;
  readonly metric: string;
  readonly value: number;
  /** Absent with fewer than two independent units. */
  readonly standardError: number | undefined;
  /** Items behind the value. */
  readonly count: number;
  readonly better: Direction;
  /** Every item's share, for comparisons and closer looks. */
  readonly items: readonly ItemScore[];
  /** Things to know about the value: prompts that had to be cut, examples taken from the items. */
  readonly notes: readonly string[];
}

/** What a metric measured. `exponential`: reported as e to the power of the ratio (perplexity). */
export interface Measurement {
  readonly metric: string;
  readonly better: Direction;
  readonly items: readonly ItemScore[];
  readonly exponential?: boolean;
  readonly notes?: readonly string[];
}

/** `asked` are the task's items, whose groups the scores take over. */
export function toResult(
  name: string,
  measurement: Measurement,
  { notes, asked }: { readonly notes: readonly string[]; readonly asked: Task["items"] },
): TaskResult {
  const { metric, better } = measurement;
  const groups = new Map(asked.flatMap(({ id, group }) => (group === undefined ? [] : [[id, group] as const])));
  const items = measurement.items.map((item) => (groups.has(item.id) ? { ...item, group: groups.get(item.id) } : item));
  const estimate = ratioEstimate(items);
  const { value, standardError } = measurement.exponential === true ? exponentiate(estimate) : estimate;
  return {
    name,
    metric,
    value,
    standardError,
    count: items.length,
    better,
    items,
    notes: [...notes, ...(measurement.notes ?? [])],
  };
}

/** Delta method: d exp(r) = exp(r) dr. */
function exponentiate({ value, standardError, units }: Estimate): Estimate {
  const exp = Math.exp(value);
  return { value: exp, standardError: standardError === undefined ? undefined : exp * standardError, units };
}

export interface Comparison {
  readonly name: string;
  readonly metric: string;
  /** First minus second; for perplexity, of the nats per token. */
  readonly difference: number;
  readonly standardError: number | undefined;
  readonly count: number;
  /** How many standard errors the first is better than the second; negative when it is worse. */
  readonly better: number | undefined;
}

/**
 * Two results of the same metric on the same items: the difference and the standard error of the paired difference.
 * Throws PlinthError when they measure different things.
 */
export function compareResults(first: TaskResult, second: TaskResult): Comparison {
  if (first.name !== second.name || first.metric !== second.metric) {
    throw new PlinthError(
      `cannot compare ${first.name} ${first.metric} with ${second.name} ${second.metric}`,
      "compare results of the same task and metric",
    );
  }
  const { value, standardError } = pairedDifference(first.items, second.items);
  const sign = first.better === "higher" ? 1 : -1;
  return {
    name: first.name,
    metric: first.metric,
    difference: value,
    standardError,
    count: first.count,
    better: standardError === undefined ? undefined : (sign * value) / standardError,
  };
}
