import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { PlinthError, readJson, writeJsonAtomic } from "../../base/index.ts";
import { hostInfo, measureLimits } from "../../engine/index.ts";

/** Licences whose terms allow training and redistribution with notice; the default filter on installed packages. */
export const permissiveLicences = [
  "MIT",
  "Apache-2.0",
  "BSD-*",
  "ISC",
  "0BSD",
  "CC0-1.0",
  "Unlicense",
  "BlueOak-1.0.0",
];

const planSchema = z.object({
  from: z.string(),
  seed: z.number(),
  vocabSize: z.number(),
  layers: z.number(),
  width: z.number(),
  heads: z.number(),
  context: z.number(),
  batchSize: z.number(),
  pretrainSteps: z.number(),
  adaptSteps: z.number(),
});

/** Every choice of a run, made once and kept in its folder, so that a resumed run is the same run. */
export type Plan = z.infer<typeof planSchema>;

/** Share of the machine's limit that a training step of this size is planned with. */
const plannedShare = 0.4;
const pretrainSeconds = 120;
const adaptSecondsEach = 18;

/** The plan for this machine: the same model everywhere, fewer steps where the machine is slow. */
export function makePlan(from: string, seed: number): Plan {
  const model = { vocabSize: 2048, layers: 4, width: 128, heads: 4, context: 256, batchSize: 4 };
  const weights = 12 * model.layers * model.width ** 2 + model.vocabSize * model.width;
  const stepFlops = 6 * weights * model.batchSize * model.context;
  const flops = "isa" in hostInfo().native ? measureLimits({ seconds: 0.3 }).gflops * 1e9 : 1e9;
  const stepsIn = (seconds: number): number => Math.floor((seconds * flops * plannedShare) / stepFlops);
  return {
    from,
    seed,
    ...model,
    pretrainSteps: Math.max(20, Math.min(2000, stepsIn(pretrainSeconds))),
    adaptSteps: Math.max(10, Math.min(300, stepsIn(adaptSecondsEach))),
  };
}

/**
 * The folder of a run and its plan. Without `out`: `runs/quickstart-N`, a new N, or with `resume` the newest that is not
 * finished. Throws PlinthError when the folder holds another run.
 */
export async function openRun(options: {
  readonly out: string | undefined;
  readonly resume: boolean;
  readonly plan: () => Plan;
}): Promise<{ readonly folder: string; readonly plan: Plan }> {
  const folder = resolve(options.out ?? (options.resume ? newestUnfinished() : nextFree()));
  const file = join(folder, "plan.json");
  if (existsSync(file)) {
    if (!options.resume) {
      throw new PlinthError(
        `${folder} already holds a quickstart`,
        "continue it with --resume, or choose another --out",
      );
    }
    const parsed = planSchema.safeParse(await readJson(file));
    if (!parsed.success)
      throw new PlinthError(`${file}: ${parsed.error.issues[0]?.message}`, "start again in another --out");
    return { folder, plan: parsed.data };
  }
  if (options.resume) throw new PlinthError(`${folder} holds no quickstart to resume`, "leave out --resume");
  if (existsSync(folder) && readdirSync(folder).length > 0) {
    throw new PlinthError(`${folder} is not empty`, "choose another --out");
  }
  const plan = options.plan();
  await writeJsonAtomic(file, plan);
  return { folder, plan };
}

const runs = "runs";
const pattern = /^quickstart-(\d+)$/;

function numbers(): number[] {
  if (!existsSync(runs)) return [];
  return readdirSync(runs)
    .flatMap((name) => pattern.exec(name)?.[1] ?? [])
    .map(Number);
}

function nextFree(): string {
  return join(runs, `quickstart-${Math.max(0, ...numbers()) + 1}`);
}

function newestUnfinished(): string {
  const unfinished = numbers()
    .sort((a, b) => b - a)
    .map((n) => join(runs, `quickstart-${n}`))
    .find((folder) => !existsSync(join(folder, "report.html")));
  if (unfinished === undefined) throw new PlinthError("there is no unfinished quickstart here", "leave out --resume");
  return unfinished;
}
