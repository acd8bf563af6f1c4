import { existsSync } from "node:fs";
import { join } from "node:path";
import { PlinthError, readJson, writeFileAtomic, writeJsonAtomic } from "../../base/index.ts";
import { fitIsoFlops, fitScalingLaw, predictLoss, type ScalingLaw } from "../../evaluate/index.ts";
import { measureAbilities } from "./abilities.ts";
import { searchLearningRates, transfers } from "./learning-rates.ts";
import { lawRuns, type RunPlan, short } from "./plan.ts";
import { abilityPicture, lawPicture } from "./plots.ts";
import { type NextSize, reportMarkdown, type SweepReport } from "./report.ts";
import { type RunResult, type SweepContext, trainRun } from "./run.ts";

/**
 * The whole of a sweep: the learning rate, the runs, the law, its prediction of the next size and what training that
 * gives, and abilities. Whatever is done already in the folder is only read.
 */
export async function runSweep(context: SweepContext): Promise<SweepReport> {
  const { sweep, io, documents } = context;
  const { runs: plans, notes } = lawRuns(sweep, documents.train.tokenCount);
  if (plans.length === 0) {
    throw new PlinthError(
      `no run of the sweep is possible (${notes[0]})`,
      "give larger budgets, or a smaller --batch-size",
    );
  }
  for (const note of notes) io.note(note);
  const curves = sweep.lrs.length > 1 ? await searchLearningRates(context) : [];
  const lr = curves[0]?.bestLr ?? (sweep.lrs[0] as number);

  const runs: RunResult[] = [];
  for (const [i, plan] of plans.entries()) {
    const label = `run ${i + 1} of ${plans.length}, ${plan.name}`;
    runs.push(await trainRun(context, plan, lr, { label }));
  }
  const points = runs.map(({ parameters, tokens, loss }) => ({ parameters, tokens, loss: loss as number }));
  const law = fitsLaw(runs) ? fitScalingLaw(points, { seed: sweep.seed }) : undefined;
  if (law === undefined) notes.push("no law is fitted: it takes five runs of several sizes and numbers of tokens");
  const isoFlop = fitIsoFlops(
    sweep.budgets.map((flops) => ({
      flops,
      points: points.filter((_, i) => runs[i]?.budget === flops),
    })),
    { seed: sweep.seed },
  );
  const report: SweepReport = {
    sweep,
    lr,
    learningRates: { curves, transfers: transfers(curves) },
    runs,
    law: law === undefined ? undefined : withoutSamples(law),
    isoFlop,
    next: law === undefined ? undefined : await trainNext(context, law, lr),
    abilities: await measureAbilities(context, runs),
    seconds: [...runs, ...curves.flatMap((curve) => curve.runs)].reduce((sum, run) => sum + run.seconds, 0),
    notes,
  };
  await writeReport(context.out, report);
  return report;
}

/** Predicts the next size's loss, writes that down, and only then trains it. */
async function trainNext(context: SweepContext, law: ScalingLaw, lr: number): Promise<NextSize | undefined> {
  const { sweep, out, io } = context;
  if (sweep.next === undefined) return undefined;
  const { shape, flops } = sweep.next;
  const stepTokens = sweep.batchSize * sweep.context;
  const steps = Math.max(1, Math.round(flops / shape.flopsPerToken / stepTokens));
  const run = { parameters: shape.parameters, tokens: steps * stepTokens };
  const file = join(out, "prediction.json");
  const predicted = predictLoss(law, run);
  // The first prediction stands, also when the sweep is looked at again after the run.
  if (!existsSync(file)) await writeJsonAtomic(file, { ...run, predicted });
  else checkPrediction((await readJson(file)) as typeof run, run, file);
  io.note(`next size, ${shape.parameters} parameters: loss ${predicted.loss.toFixed(4)} predicted`);
  const name = `next-w${shape.width}-c${short(flops)}`;
  const plan: RunPlan = { name, shape, steps, parametrisation: sweep.muP ? "muP" : "standard" };
  const { loss, tokens, flops: spent } = await trainRun(context, plan, lr, { label: `next size, ${name}` });
  const measured = loss as number;
  return { ...run, tokens, flops: spent, predicted, measured, error: predicted.loss / measured - 1 };
}

function checkPrediction(
  saved: { parameters: number; tokens: number },
  now: { parameters: number; tokens: number },
  file: string,
): void {
  if (saved.parameters === now.parameters && saved.tokens === now.tokens) return;
  throw new PlinthError(
    `${file} predicts ${saved.parameters} parameters on ${saved.tokens} tokens, not ${now.parameters} on ${now.tokens}`,
    "remove the file to predict another size",
  );
}

function fitsLaw(runs: readonly RunResult[]): boolean {
  const kinds = (pick: (run: RunResult) => number): number => new Set(runs.map(pick)).size;
  return runs.length >= 5 && kinds((r) => r.parameters) > 1 && kinds((r) => r.tokens) > 1;
}

function withoutSamples({ samples: _, ...law }: ScalingLaw): Omit<ScalingLaw, "samples"> {
  return law;
}

async function writeReport(out: string, report: SweepReport): Promise<void> {
  await writeJsonAtomic(join(out, "report.json"), report);
  const [law, abilities] = [lawPicture(report), abilityPicture(report)];
  if (law !== undefined) await writeFileAtomic(join(out, "scaling-law.svg"), law);
  if (abilities !== undefined) await writeFileAtomic(join(out, "abilities.svg"), abilities);
  const pictures = [
    ...(law === undefined ? [] : ["![scaling law](scaling-law.svg)"]),
    ...(abilities === undefined ? [] : ["![abilities](abilities.svg)"]),
  ];
  await writeFileAtomic(join(out, "report.md"), [reportMarkdown(report), ...pictures, ""].join("\n"));
}
