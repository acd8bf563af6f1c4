import { existsSync } from "node:fs";
import { join } from "node:path";
import { adapt, encodeInstructions } from "../../adapt/index.ts";
import { PlinthError } from "../../base/index.ts";
import {
  buildDataset,
  type Dataset,
  heldOutBatches,
  openDataset,
  packedBatches,
  Tokenizer,
  tokenDocuments,
  tokenizeDataset,
  trainBpe,
} from "../../data/index.ts";
import { countParameters, gpt2, initModel, loadModel, type Model } from "../../models/index.ts";
import { pretrain, type TrainEvent } from "../../train/index.ts";
import type { CommandIo } from "../command.ts";
import { type Plan, permissiveLicences } from "./plan.ts";
import type { Example, QuickstartTask } from "./tasks.ts";

/** Share of documents held out for evaluation. */
const heldOutShare = 0.1;

export function interrupted(folder: string): PlinthError {
  return new PlinthError(
    `stopped; what was done is in ${folder}`,
    `continue with plinth quickstart --resume --out ${folder}`,
  );
}

export interface Run {
  readonly folder: string;
  readonly plan: Plan;
  readonly io: CommandIo;
  readonly resume: boolean;
}

export async function makeDataset({ folder, plan, io }: Run): Promise<Dataset> {
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

export async function makeTokenizer({ folder, plan, io }: Run, dataset: Dataset): Promise<Tokenizer> {
  const out = join(folder, "tokenizer");
  if (existsSync(join(out, "tokenizer.json"))) return Tokenizer.load(out);
  io.progress("tokenizer: learning merges");
  const tokenizer = await trainBpe(dataset.texts("train"), { vocabSize: plan.vocabSize, signal: io.signal });
  await tokenizer.save(out);
  io.note(`tokenizer: ${tokenizer.vocabSize} tokens`);
  return tokenizer;
}

export async function pretrainBase({ folder, plan, io, resume }: Run, dataset: Dataset, tokenizer: Tokenizer) {
  const documents = await tokenizeDataset(dataset, tokenizer, { signal: io.signal });
  const { context, batchSize, seed, pretrainSteps } = plan;
  const model: Model = { ...newModel(plan, tokenizer, seed), tokenizer };
  io.note(`pretraining a gpt2 of ${(countParameters(model) / 1e6).toFixed(1)}M parameters for ${pretrainSteps} steps`);
  const every = Math.ceil(pretrainSteps / 6);
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

async function taskBatches({ plan }: Run, tokenizer: Tokenizer, examples: readonly Example[]) {
  const { documents } = await encodeInstructions(examples, tokenizer, { context: plan.context, name: "example" });
  const tokens = tokenDocuments(documents, tokenizer);
  return packedBatches(tokens, { batchSize: plan.batchSize, context: plan.context, seed: plan.seed });
}

export async function adaptTo(
  run: Run,
  task: QuickstartTask,
  base: Model,
  examples: readonly Example[],
): Promise<Model> {
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
export async function trainScratch(
  run: Run,
  task: QuickstartTask,
  base: Model,
  examples: readonly Example[],
): Promise<Model> {
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
