import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { PlinthError, readJson } from "../../base/index.ts";
import { heldOutBatches, packedBatches, type TokenizedDataset, type Tokenizer } from "../../data/index.ts";
import { initModel, type Model, modelFamily } from "../../models/index.ts";
import { muP, pretrain, withMuP } from "../../train/index.ts";
import type { CommandIo } from "../command.ts";
import { generationConfig } from "../new-model.ts";
import type { RunPlan, Sweep } from "./plan.ts";
import { configOf } from "./shapes.ts";

/** What every run of a sweep shares. */
export interface SweepContext {
  readonly sweep: Sweep;
  readonly out: string;
  readonly tokenizer: Tokenizer;
  readonly documents: TokenizedDataset;
  readonly io: CommandIo;
}

/** A run that has been trained. */
export interface RunResult {
  readonly name: string;
  readonly width: number;
  readonly parameters: number;
  readonly tokens: number;
  /** Of training, by N and the tokens read. */
  readonly flops: number;
  /** The budget it was planned for. */
  readonly budget?: number | undefined;
  readonly lr: number;
  /** Held-out, in nats per token; null when it diverged. */
  readonly loss: number | null;
  readonly bitsPerByte: number | null;
  readonly seconds: number;
}

/** Thrown when Ctrl-C stops a sweep; what was done is on disk. */
export class Stopped extends Error {
  constructor() {
    super("stopped");
    this.name = "AbortError";
  }
}

export function runFolder({ out }: Pick<SweepContext, "out">, name: string): string {
  return join(out, "runs", name);
}

/**
 * Trains one run as `plinth pretrain` does, in a folder of its own; goes on where it was when there is a checkpoint, and
 * only reads its record when it is done. With `mayDiverge`, a loss that is not finite is a result and no error.
 */
export async function trainRun(
  context: SweepContext,
  plan: RunPlan,
  lr: number,
  { mayDiverge = false, label }: { readonly mayDiverge?: boolean; readonly label: string },
): Promise<RunResult> {
  const { io } = context;
  const out = runFolder(context, plan.name);
  if (io.signal.aborted) throw new Stopped();
  const done = await readRun(out, plan, lr, mayDiverge);
  if (done !== undefined) return done;
  try {
    await train(context, plan, lr, { out, label });
  } catch (error) {
    if (!mayDiverge || !(error instanceof PlinthError) || !/loss/.test(error.message)) throw error;
    io.note(`${label}: ${error.message}`);
  }
  if (io.signal.aborted && (await status(out)) === "interrupted") throw new Stopped();
  const result = await readRun(out, plan, lr, mayDiverge);
  if (result === undefined) throw new PlinthError(`${out}: the run did not finish`, "resume the sweep");
  // The model stays; its checkpoints would only be needed to go on with the same run.
  await rm(join(out, "checkpoints"), { recursive: true, force: true });
  const { loss, seconds } = result;
  io.note(`${label}: ${loss === null ? "diverged" : `held-out loss ${loss.toFixed(4)}`} in ${seconds.toFixed(0)} s`);
  return result;
}

async function train(
  { sweep, tokenizer, documents, io }: SweepContext,
  { shape, steps, parametrisation }: RunPlan,
  lr: number,
  { out, label }: { readonly out: string; readonly label: string },
): Promise<void> {
  const { batchSize, context, seed, batching: mode, heldOutBatches: maxBatches, weightDecay, beta2 } = sweep;
  const config = configOf({ ...sweep, untied: sweep.muP }, tokenizer, shape.width);
  const family = modelFamily(sweep.arch, "--arch");
  const plain: Model = {
    ...initModel(family, config, { seed }),
    tokenizer,
    generationConfig: generationConfig(tokenizer),
  };
  const baseWidth = sweep.shapes[0]?.width ?? shape.width;
  const isMuP = parametrisation === "muP";
  const scale = isMuP ? muP(plain, baseWidth) : undefined;
  await pretrain(isMuP ? withMuP(plain, baseWidth) : plain, {
    data: packedBatches(documents.train, { batchSize, context, seed, mode }),
    heldOut: heldOutBatches(documents.heldOut, { batchSize, context, mode, maxBatches }),
    steps,
    schedule: { name: "cosine", lr, warmupSteps: Math.min(100, Math.floor(steps / 10)) },
    optimizer: { name: "adamw", options: { beta2, weightDecay } },
    ...(scale === undefined ? {} : { lrScale: (name: string) => scale(name).lr }),
    precision: sweep.precision,
    seed,
    out,
    resume: true,
    checkpointEvery: Math.max(200, Math.ceil(steps / 4)),
    heldOutEvery: steps,
    keepLast: 1,
    spike: false,
    config: {
      arch: sweep.arch,
      layers: shape.layers,
      width: shape.width,
      heads: shape.heads,
      context,
      batching: mode,
      tokenizer: tokenizer.hash,
      "batch-size": batchSize,
      lr,
      "held-out-batches": maxBatches,
      ...(isMuP ? { muP: baseWidth } : {}),
    },
    dataHash: sweep.dataHash,
    signal: io.signal,
    onEvent(event) {
      if (event.kind !== "step") return;
      const { step, loss, tokensPerSecond, etaSeconds } = event;
      io.progress(
        `${label}: step ${step}/${steps}  loss ${loss.toFixed(4)}  ${Math.round(tokensPerSecond)} tokens/s  ${Math.ceil(etaSeconds)} s left`,
      );
    },
  });
}

interface Record {
  readonly status: string;
  readonly step: number;
  readonly tokens: number;
  readonly seconds: number;
  readonly heldOut: { readonly loss: number; readonly bitsPerByte: number } | null;
  readonly config: { readonly lr: number; readonly steps: number };
}

async function readRun(
  out: string,
  { name, shape, steps, flops: budget }: RunPlan,
  lr: number,
  mayDiverge: boolean,
): Promise<RunResult | undefined> {
  const file = join(out, "run.json");
  if (!existsSync(file)) return undefined;
  const record = (await readJson(file)) as Record;
  if (record.status === "failed" && !mayDiverge) return undefined;
  if (record.status !== "complete" && record.status !== "failed") return undefined;
  if (record.config.lr !== lr || record.config.steps !== steps) {
    throw new PlinthError(
      `${out} was trained for ${record.config.steps} steps at a learning rate of ${record.config.lr}, not ${steps} at ${lr}`,
      "remove this folder, or start the sweep in another --out",
    );
  }
  const { tokens, seconds, heldOut } = record;
  const hasLoss = record.status === "complete" && heldOut !== null && Number.isFinite(heldOut.loss);
  return {
    name,
    width: shape.width,
    parameters: shape.parameters,
    tokens,
    flops: tokens * shape.flopsPerToken,
    budget,
    lr,
    loss: hasLoss ? heldOut.loss : null,
    bitsPerByte: hasLoss ? heldOut.bitsPerByte : null,
    seconds,
  };
}

async function status(out: string): Promise<string | undefined> {
  const file = join(out, "run.json");
  return existsSync(file) ? ((await readJson(file)) as Record).status : undefined;
}
