import { join, relative } from "node:path";
import { writeFileAtomic, writeJsonAtomic } from "../../base/index.ts";
import { compression, type Dataset } from "../../data/index.ts";
import { countParameters } from "../../models/index.ts";
import type { CommandIo } from "../command.ts";
import type { Series } from "./chart.ts";
import { compare, sampleBase, sampleTask } from "./compare.ts";
import { curve, pretrainingCurves } from "./curves.ts";
import { makeExamples, type TaskExamples } from "./examples.ts";
import { makePlan, openRun, type Plan } from "./plan.ts";
import { type Curves, type QuickstartResult, reportHtml, reportPicture, type TaskResult } from "./report.ts";
import { adaptTo, interrupted, makeDataset, makeTokenizer, pretrainBase, trainScratch } from "./stages.ts";
import { quickstartTasks } from "./tasks.ts";

export interface QuickstartOptions {
  /** Folder of text, or absent for the installed packages. */
  readonly folder?: string | undefined;
  readonly out?: string | undefined;
  readonly seed: number;
  readonly resume: boolean;
  readonly plan?: Partial<Plan>;
}

/**
 * The whole of the paradigm on one's own text: dataset, tokenizer, pretraining, two adaptations, evaluation, samples
 * and a report. Each stage leaves its artifact in the run's folder; a stopped run continues from there with `resume`.
 */
export async function quickstart(options: QuickstartOptions, io: CommandIo): Promise<QuickstartResult> {
  const { folder, plan } = await openRun({
    out: options.out,
    resume: options.resume,
    plan: () => ({ ...makePlan(options.folder ?? "npm", options.seed), ...options.plan }),
  });
  io.note(`everything goes to ${relative(process.cwd(), folder)}`);
  const seconds: Record<string, number> = {};
  const timed = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    io.signal.throwIfAborted();
    const start = performance.now();
    const value = await work();
    seconds[name] = (performance.now() - start) / 1000;
    if (io.signal.aborted) throw interrupted(folder);
    return value;
  };
  try {
    const run = { folder, plan, io, resume: options.resume };
    const dataset = await timed("data", () => makeDataset(run));
    const tokenizer = await timed("tokenizer", () => makeTokenizer(run, dataset));
    const { bytesPerToken } = await compression(tokenizer, [dataset], { split: "heldOut", maxBytes: 2 ** 18 });
    const base = await timed("pretrain", () => pretrainBase(run, dataset, tokenizer));
    const examples = await Promise.all(
      quickstartTasks.map((task) => makeExamples(task, dataset, { tokenizer, context: plan.context })),
    );
    const tasks: TaskResult[] = [];
    const samples: QuickstartResult["samples"][number][] = [await sampleBase(base.model, dataset)];
    const adaptation: Series[] = [];
    for (const [i, task] of quickstartTasks.entries()) {
      const { train, test } = examples[i] as TaskExamples;
      const adapted = await timed(`adapt ${task.name}`, () => adaptTo(run, task, base.model, train));
      const scratch = await timed(`scratch ${task.name}`, () => trainScratch(run, task, base.model, train));
      adaptation.push(await curve(`${task.name}, adapted`, join(folder, `adapted-${task.name}`)));
      adaptation.push(await curve(`${task.name}, scratch`, join(folder, `scratch-${task.name}`)));
      tasks.push(
        await timed(`evaluate ${task.name}`, () => compare(io, task, test, { base: base.model, adapted, scratch })),
      );
      samples.push(...(await sampleTask(task, test, { base: base.model, adapted })));
    }
    const result: QuickstartResult = {
      dataset: describeDataset(dataset),
      tokenizer: { vocabSize: tokenizer.vocabSize, bytesPerToken },
      model: {
        arch: "gpt2",
        parameters: countParameters(base.model),
        layers: plan.layers,
        width: plan.width,
        heads: plan.heads,
        context: plan.context,
        steps: plan.pretrainSteps,
        tokens: base.tokens,
        tokensPerSecond: base.tokensPerSecond,
        bitsPerByte: base.bitsPerByte,
        path: join(folder, "model"),
      },
      tasks,
      seconds,
      samples,
      report: join(folder, "report.html"),
    };
    const curves: Curves = {
      pretraining: await pretrainingCurves(folder, bytesPerToken),
      adaptation,
    };
    await writeJsonAtomic(join(folder, "report.json"), result);
    await writeFileAtomic(join(folder, "report.svg"), reportPicture(tasks, curves));
    await writeFileAtomic(result.report, reportHtml(result, curves));
    return result;
  } catch (error) {
    if (io.signal.aborted) throw interrupted(folder);
    throw error;
  }
}

function describeDataset({ manifest, hash }: Dataset): QuickstartResult["dataset"] {
  const { splits, licences, filtered, sources } = manifest;
  return {
    documents: splits.train.documents,
    bytes: splits.train.bytes,
    heldOutDocuments: splits.heldOut.documents,
    licences: Object.fromEntries(Object.entries(licences).map(([name, { documents }]) => [name, documents])),
    filtered: Object.fromEntries(Object.entries(filtered).map(([reason, { count }]) => [reason, count])),
    sources: sources.map(({ from }) => (from === "npm" ? "the installed npm packages" : from)),
    hash,
  };
}
