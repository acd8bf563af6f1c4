import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { adapt, encodeInstructions } from "../../adapt/index.ts";
import { PlinthError, writeFileAtomic, writeJsonAtomic } from "../../base/index.ts";
import {
  buildDataset,
  compression,
  type Dataset,
  heldOutBatches,
  openDataset,
  packedBatches,
  Tokenizer,
  tokenDocuments,
  tokenizeDataset,
  trainBpe,
} from "../../data/index.ts";
import { type CompletionTask, evaluate } from "../../evaluate/index.ts";
import { generateText } from "../../generate/index.ts";
import { countParameters, gpt2, initModel, loadModel, type Model } from "../../models/index.ts";
import { pretrain, type TrainEvent } from "../../train/index.ts";
import type { CommandIo } from "../command.ts";
import type { Series } from "./chart.ts";
import { makePlan, openRun, type Plan, permissiveLicences } from "./plan.ts";
import { type Curves, type QuickstartResult, reportHtml, type TaskResult } from "./report.ts";
import { type Example, type QuickstartTask, quickstartTasks } from "./tasks.ts";

export interface QuickstartOptions {
  /** Folder of text, or absent for the installed packages. */
  readonly folder?: string | undefined;
  readonly out?: string | undefined;
  readonly seed: number;
  readonly resume: boolean;
  readonly plan?: Partial<Plan>;
}

/** Share of documents held out for evaluation. */
const heldOutShare = 0.1;
const maxTaskDocuments = 2000;
const maxTestDocuments = 120;

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
  io.note(`everything goes to ${folder}`);
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
    const examples = await Promise.all(quickstartTasks.map((task) => makeExamples(task, dataset)));
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
        await timed(`evaluate ${task.name}`, () => compare(run, task, test, { base: base.model, adapted, scratch })),
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
    await writeFileAtomic(result.report, reportHtml(result, curves));
    return result;
  } catch (error) {
    if (io.signal.aborted) throw interrupted(folder);
    throw error;
  }
}

function interrupted(folder: string): PlinthError {
  return new PlinthError(
    `stopped; what was done is in ${folder}`,
    `continue with plinth quickstart --resume --out ${folder}`,
  );
}

interface Run {
  readonly folder: string;
  readonly plan: Plan;
  readonly io: CommandIo;
  readonly resume: boolean;
}

async function makeDataset({ folder, plan, io }: Run): Promise<Dataset> {
  const out = join(folder, "dataset");
  if (existsSync(join(out, "manifest.json"))) return openDataset(out);
  const isNpm = plan.from === "npm";
  const dataset = await buildDataset({
    from: [plan.from],
    out,
    heldOut: heldOutShare,
    seed: plan.seed,
    minBytes: 64,
    ...(isNpm ? { allowLicences: permissiveLicences } : {}),
    signal: io.signal,
    onProgress: ({ documents, bytes }) => io.progress(`data: ${documents} documents, ${(bytes / 1e6).toFixed(1)} MB`),
  });
  const { splits, licences, filtered } = dataset.manifest;
  io.note(`data: ${splits.train.documents} documents (${(splits.train.bytes / 1e6).toFixed(1)} MB) from ${plan.from}`);
  io.note(`  licences: ${list(licences, (each) => each.documents)}`);
  if (Object.keys(filtered).length > 0) io.note(`  left out: ${list(filtered, (each) => each.count)}`);
  if (splits.heldOut.documents === 0) {
    throw new PlinthError(
      `${plan.from}: ${splits.train.documents} documents are too few to hold some out for evaluation`,
      "name a folder with at least a few dozen files of text",
    );
  }
  return dataset;
}

function list<T>(tally: Readonly<Record<string, T>>, count: (each: T) => number): string {
  const entries = Object.entries(tally).map(([name, each]) => [name, count(each)] as const);
  return entries
    .sort((a, b) => b[1] - a[1])
    .map(([name, n]) => `${n} ${name}`)
    .join(", ");
}

async function makeTokenizer({ folder, plan, io }: Run, dataset: Dataset): Promise<Tokenizer> {
  const out = join(folder, "tokenizer");
  if (existsSync(join(out, "tokenizer.json"))) return Tokenizer.load(out);
  io.progress("tokenizer: learning merges");
  const tokenizer = await trainBpe(dataset.texts("train"), { vocabSize: plan.vocabSize, signal: io.signal });
  await tokenizer.save(out);
  io.note(`tokenizer: ${tokenizer.vocabSize} tokens`);
  return tokenizer;
}

async function pretrainBase({ folder, plan, io, resume }: Run, dataset: Dataset, tokenizer: Tokenizer) {
  const documents = await tokenizeDataset(dataset, tokenizer, { signal: io.signal });
  const { context, batchSize, seed, pretrainSteps } = plan;
  const model: Model = { ...newModel(plan, tokenizer, seed), tokenizer };
  io.note(`pretraining a gpt2 of ${(countParameters(model) / 1e6).toFixed(1)}M parameters for ${pretrainSteps} steps`);
  const every = Math.max(1, Math.floor(pretrainSteps / 6));
  const out = join(folder, "model");
  const trained = await pretrain(model, {
    data: packedBatches(documents.train, { batchSize, context, seed }),
    heldOut: heldOutBatches(documents.heldOut, { batchSize, context, maxBatches: 24 }),
    steps: pretrainSteps,
    schedule: { name: "cosine", lr: 2e-3, warmupSteps: Math.ceil(pretrainSteps / 20) },
    optimizer: { name: "adamw", options: { beta2: 0.95, weightDecay: 0.1 } },
    heldOutEvery: every,
    checkpointEvery: every,
    keepLast: 1,
    seed,
    out,
    resume,
    config: { ...plan },
    dataHash: dataset.hash,
    signal: io.signal,
    onEvent: report(io, "pretrain"),
  });
  if (trained.status === "interrupted") throw interrupted(folder);
  const bitsPerByte = trained.heldOut?.bitsPerByte ?? Number.NaN;
  io.note(
    `pretrained: ${bitsPerByte.toFixed(3)} bits per byte held out, ${Math.round(trained.tokensPerSecond)} tokens/s`,
  );
  return { ...trained, bitsPerByte, model: await loadModel(out) };
}

function newModel(plan: Plan, tokenizer: Tokenizer, seed: number): Model {
  const config = gpt2.createConfig({
    vocabSize: tokenizer.vocabSize,
    contextLength: plan.context,
    hiddenSize: plan.width,
    numLayers: plan.layers,
    numHeads: plan.heads,
    bosTokenId: tokenizer.bosId,
    eosTokenId: tokenizer.eosId,
  });
  return { ...initModel(gpt2, config, { seed }), tokenizer } as unknown as Model;
}

function report(io: CommandIo, name: string): (event: TrainEvent) => void {
  return (event) => {
    if (event.kind === "step") {
      const { step, loss, tokensPerSecond, etaSeconds } = event;
      io.progress(
        `${name}: step ${step}, loss ${loss.toFixed(3)}, ${Math.round(tokensPerSecond)} tokens/s, ${Math.ceil(etaSeconds)} s left`,
      );
    }
    if (event.kind === "heldOut")
      io.note(`  step ${event.step}: ${event.bitsPerByte.toFixed(3)} bits per byte held out`);
    if (event.kind === "note") io.note(`  ${event.text}`);
  };
}

interface TaskExamples {
  readonly train: readonly Example[];
  readonly test: CompletionTask["items"];
}

/** Examples from the training documents to learn from, and from held-out documents to be tested on. */
async function makeExamples(task: QuickstartTask, dataset: Dataset): Promise<TaskExamples> {
  const train: Example[] = [];
  let documents = 0;
  for await (const { text } of dataset.documents("train")) {
    if (documents >= maxTaskDocuments) break;
    const made = task.examples(text);
    if (made.length > 0) documents++;
    train.push(...made);
  }
  const test: CompletionTask["items"][number][] = [];
  documents = 0;
  for await (const { text, id } of dataset.documents("heldOut")) {
    if (documents >= maxTestDocuments) break;
    const made = task.examples(text);
    if (made.length > 0) documents++;
    test.push(...made.map((example, i) => ({ ...example, id: `${id}-${i}`, cluster: id })));
  }
  if (train.length === 0 || documents < 2) {
    throw new PlinthError(
      `the task "${task.name}" found ${train.length} lines to learn from and ${documents} held-out documents`,
      "name a folder with more text: at least a few dozen files with lines of 24 characters or more",
    );
  }
  return { train, test };
}

async function taskBatches({ plan }: Run, tokenizer: Tokenizer, examples: readonly Example[]) {
  const { documents } = await encodeInstructions(examples, tokenizer, { context: plan.context, name: "example" });
  const tokens = tokenDocuments(documents, tokenizer);
  return packedBatches(tokens, { batchSize: plan.batchSize, context: plan.context, seed: plan.seed });
}

async function adaptTo(run: Run, task: QuickstartTask, base: Model, examples: readonly Example[]): Promise<Model> {
  const { plan, io, folder, resume } = run;
  const out = join(folder, `adapted-${task.name}`);
  const { model, status } = await adapt(base, {
    method: "lora",
    adapter: { rank: 16, alpha: 32, seed: plan.seed, baseModel: join(folder, "model") },
    data: await taskBatches(run, base.tokenizer as Tokenizer, examples),
    steps: plan.adaptSteps,
    schedule: { name: "cosine", lr: 4e-3, warmupSteps: Math.ceil(plan.adaptSteps / 20) },
    seed: plan.seed,
    out,
    resume,
    config: { task: task.name },
    signal: io.signal,
    onEvent: report(io, `adapt to "${task.name}"`),
  });
  if (status === "interrupted") throw interrupted(folder);
  return model;
}

/** The rival of the adapted model: the same network, not pretrained, all weights trained on the task for as many steps. */
async function trainScratch(run: Run, task: QuickstartTask, base: Model, examples: readonly Example[]): Promise<Model> {
  const { plan, io, folder, resume } = run;
  const tokenizer = base.tokenizer as Tokenizer;
  const { model, status } = await pretrain(newModel(plan, tokenizer, plan.seed + 1), {
    data: await taskBatches(run, tokenizer, examples),
    steps: plan.adaptSteps,
    schedule: { name: "cosine", lr: 2e-3, warmupSteps: Math.ceil(plan.adaptSteps / 20) },
    optimizer: { name: "adamw", options: { beta2: 0.95, weightDecay: 0.1 } },
    seed: plan.seed,
    out: join(folder, `scratch-${task.name}`),
    resume,
    config: { task: task.name },
    signal: io.signal,
    onEvent: report(io, `"${task.name}" from scratch`),
  });
  if (status === "interrupted") throw interrupted(folder);
  return model;
}

async function compare(
  { io }: Run,
  task: QuickstartTask,
  items: CompletionTask["items"],
  models: Readonly<Record<"base" | "adapted" | "scratch", Model>>,
): Promise<TaskResult> {
  const measure = async (name: keyof typeof models) => {
    io.progress(`evaluate: ${name} on "${task.name}"`);
    const completion: CompletionTask = { name: task.name, kind: "completion", items, delimiter: "" };
    const results = await evaluate(models[name], [completion], { signal: io.signal, batchSize: 16 });
    const bits = results.find((result) => result.metric === "bits-per-byte");
    if (bits === undefined) throw new Error("evaluate: no bits-per-byte of a completion task.");
    return { value: bits.value, standardError: bits.standardError ?? Number.NaN };
  };
  const [base, adapted, scratch] = [await measure("base"), await measure("adapted"), await measure("scratch")];
  io.note(
    `task "${task.name}": base ${base.value.toFixed(3)}, adapted ${adapted.value.toFixed(3)}, scratch ${scratch.value.toFixed(3)} bits per byte`,
  );
  return {
    name: task.name,
    metric: "bits-per-byte",
    summary: task.summary,
    documents: new Set(items.map((item) => item.cluster)).size,
    base,
    adapted,
    scratch,
  };
}

/** The base model goes on with the beginning of a held-out document. */
async function sampleBase(model: Model, dataset: Dataset) {
  for await (const { text } of dataset.documents("heldOut")) {
    if (text.length < 400) continue;
    const prompt = text.slice(0, text.lastIndexOf("\n", 200) + 1) || text.slice(0, 120);
    const generation = await generateText(model, prompt, { maxTokens: 120, temperature: 0.7, topP: 0.95, seed: 1 });
    return { title: "base: a held-out document, continued", prompt, text: generation.text };
  }
  const generation = await generateText(model, "The", { maxTokens: 120, temperature: 0.7, topP: 0.95, seed: 1 });
  return { title: "base: a continuation", prompt: "The", text: generation.text };
}

async function sampleTask(
  task: QuickstartTask,
  items: CompletionTask["items"],
  models: Readonly<Record<"base" | "adapted", Model>>,
) {
  const item = items[Math.floor(items.length / 2)] as CompletionTask["items"][number];
  const { prompt, completion } = item;
  const samples = [{ title: `${task.name}: the right answer`, prompt, text: completion }];
  for (const [name, model] of Object.entries(models)) {
    const { text } = await generateText(model, prompt, { maxTokens: 60, temperature: 0, stop: ["\n"] });
    samples.push({ title: `${task.name}: ${name}`, prompt, text });
  }
  return samples;
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

type MetricLine = { readonly step: number; readonly loss?: number; readonly bitsPerByte?: number };

async function metrics(folder: string): Promise<MetricLine[]> {
  const text = await readFile(join(folder, "metrics.jsonl"), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as MetricLine);
}

/** Mean training loss of a run in bits per token, at about a hundred places. */
async function curve(name: string, folder: string, perBit = 1): Promise<Series> {
  const steps = (await metrics(folder)).filter((line) => line.loss !== undefined && line.bitsPerByte === undefined);
  const size = Math.max(1, Math.floor(steps.length / 100));
  const points: [number, number][] = [];
  for (let i = 0; i + size <= steps.length; i += size) {
    const group = steps.slice(i, i + size);
    const mean = group.reduce((sum, line) => sum + (line.loss as number), 0) / group.length;
    points.push([(group.at(-1) as MetricLine).step, mean / Math.LN2 / perBit]);
  }
  return { name, points };
}

async function pretrainingCurves(folder: string, bytesPerToken: number): Promise<Series[]> {
  const run = join(folder, "model");
  const heldOut = (await metrics(run)).flatMap(({ step, bitsPerByte }) =>
    bitsPerByte === undefined ? [] : [[step, bitsPerByte] as const],
  );
  return [await curve("training", run, bytesPerToken), { name: "held out", points: heldOut, dots: true }];
}
