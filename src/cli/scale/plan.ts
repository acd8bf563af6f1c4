import { existsSync } from "node:fs";
import { join } from "node:path";
import { makeFolder, PlinthError, readJson, writeJsonAtomic } from "../../base/index.ts";
import type { Precision } from "../../engine/index.ts";
import type { Shape } from "./shapes.ts";

/** All that decides a sweep's result; `sweep.json`. */
export interface Sweep {
  readonly arch: string;
  readonly layers: number;
  readonly headWidth: number;
  readonly context: number;
  readonly batching: "packed" | "contiguous";
  readonly batchSize: number;
  readonly weightDecay: number;
  readonly beta2: number;
  readonly precision: Precision;
  readonly seed: number;
  readonly heldOutBatches: number;
  readonly muP: boolean;
  readonly shapes: readonly Shape[];
  /** FLOPs of training, smallest first; every size is trained for each. */
  readonly budgets: readonly number[];
  /** Numbers of tokens that every size is trained on besides. */
  readonly tokens: readonly number[];
  /** More than one: searched at first, and the best of the smallest size is used. */
  readonly lrs: readonly number[];
  readonly lrSteps: number;
  readonly lrSizes: number;
  readonly lrCompare: boolean;
  readonly maxEpochs: number;
  /** The next size, trained after its loss has been predicted. */
  readonly next?: { readonly shape: Shape; readonly flops: number } | undefined;
  readonly tasks?: string | undefined;
  readonly taskLimit?: number | undefined;
  readonly dataHash: string;
  readonly tokenizerHash: string;
}

/** One training run of a sweep. */
export interface RunPlan {
  /** Name of its folder in `runs/`. */
  readonly name: string;
  readonly shape: Shape;
  readonly steps: number;
  /** Absent for runs of so many tokens, or so many steps. */
  readonly flops?: number;
  readonly parametrisation: "muP" | "standard";
}

/** Too few steps say more of the warmup than of the size. */
const minSteps = 20;

/** The runs that the law is fitted to, cheapest first, and what was left out and why. */
export function lawRuns(sweep: Sweep, trainTokens: number): { runs: RunPlan[]; notes: string[] } {
  const stepTokens = sweep.batchSize * sweep.context;
  const runs: RunPlan[] = [];
  const notes: string[] = [];
  const propose = (shape: Shape, tokens: number, suffix: string, flops?: number): void => {
    const steps = Math.round(tokens / stepTokens);
    const name = `w${shape.width}-${suffix}`;
    const epochs = (steps * stepTokens) / trainTokens;
    if (steps < minSteps) notes.push(`${name} is left out: ${steps} steps are too few`);
    else if (epochs > sweep.maxEpochs) {
      notes.push(`${name} is left out: it would read the data ${epochs.toFixed(1)} times (--max-epochs)`);
    } else {
      const parametrisation = sweep.muP ? "muP" : "standard";
      runs.push({ name, shape, steps, parametrisation, ...(flops === undefined ? {} : { flops }) });
    }
  };
  for (const flops of sweep.budgets) {
    for (const shape of sweep.shapes) propose(shape, flops / shape.flopsPerToken, `c${short(flops)}`, flops);
  }
  for (const tokens of sweep.tokens) for (const shape of sweep.shapes) propose(shape, tokens, `d${short(tokens)}`);
  const cost = ({ steps, shape }: RunPlan): number => steps * shape.flopsPerToken;
  return { runs: runs.sort((a, b) => cost(a) - cost(b)), notes };
}

/** 300000000000 as 3e11. */
export function short(value: number): string {
  return value >= 1e4 ? value.toExponential(2).replace(/\.?0*e\+?/, "e") : `${Number(value.toPrecision(3))}`;
}

/**
 * Makes a sweep's folder, or checks that the one there is of the same sweep. Throws PlinthError when it holds a sweep and
 * `resume` is not set, or another sweep.
 */
export async function openSweep(out: string, sweep: Sweep, resume: boolean): Promise<void> {
  const file = join(out, "sweep.json");
  if (!existsSync(file)) {
    await makeFolder(out);
    await writeJsonAtomic(file, sweep);
    return;
  }
  if (!resume) {
    throw new PlinthError(`${out} already holds a sweep`, "continue it with --resume, or choose another --out");
  }
  const saved = (await readJson(file)) as Record<string, unknown>;
  const now = JSON.parse(JSON.stringify(sweep)) as Record<string, unknown>;
  for (const key of new Set([...Object.keys(saved), ...Object.keys(now)])) {
    // What is evaluated, and what is predicted, may be added later: no run changes by it.
    if (key === "tasks" || key === "taskLimit" || key === "next") continue;
    if (JSON.stringify(saved[key]) === JSON.stringify(now[key])) continue;
    throw new PlinthError(
      `--resume: "${key}" is ${JSON.stringify(now[key])} now, but the sweep in ${out} was started with ${JSON.stringify(saved[key])}`,
      "give the values it was started with, or start a new sweep in another --out",
    );
  }
  await writeJsonAtomic(file, sweep);
}

/** "30k,1.5M" or "1e11,3e11" as numbers. Throws PlinthError naming the flag. */
export function readNumbers(flag: string, text: string | undefined): number[] {
  if (text === undefined || text.trim() === "") return [];
  return text.split(",").map((part) => {
    const match = /^([\d.]+(?:e[+-]?\d+)?)([kMBGT]?)$/.exec(part.trim());
    const factor = { k: 1e3, M: 1e6, B: 1e9, G: 1e9, T: 1e12 }[match?.[2] ?? ""] ?? 1;
    const value = Number(match?.[1] ?? Number.NaN) * factor;
    if (Number.isFinite(value) && value > 0) return value;
    throw new PlinthError(
      `--${flag}: expected numbers separated by commas, got "${part.trim()}"`,
      "for example 30k,1.5M,2e11",
    );
  });
}
