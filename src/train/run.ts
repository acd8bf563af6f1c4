import { join } from "node:path";
import { PlinthError, writeJsonAtomic } from "../base/index.ts";
import { formatBytes, hostInfo } from "../engine/index.ts";
import { type CheckpointInfo, pruneCheckpoints, type RunState, readSlots, saveCheckpoint } from "./checkpoint.ts";
import type { HeldOutMeasure } from "./held-out.ts";
import { MetricsLog } from "./metrics.ts";
import type { Optimizer } from "./optimizers/index.ts";
import type { Prefetcher } from "./prefetch.ts";
import type { Schedule } from "./schedules/index.ts";
import { SpikeDetector } from "./spike.ts";
import type { Start } from "./start.ts";
import type { CompiledStep, StepResult, TrainStep } from "./step.ts";
import { Throughput } from "./throughput.ts";
import type { Parameters, TrainBatch, TrainOptions, TrainResult } from "./types.ts";
import { judgeStep } from "./verdict.ts";

/** What a run is made of. */
export interface RunParts {
  readonly step: TrainStep;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly data: Prefetcher;
  readonly heldOut: HeldOutMeasure | undefined;
  readonly config: RunState["config"];
  readonly environment: RunState["environment"];
  /** Absent for a new run. */
  readonly start: Start | undefined;
}

type Progress = Omit<RunState, "format" | "config" | "environment" | "spike" | "seconds">;

/** A run in progress: steps, and what happens between them. */
export class TrainRun {
  readonly #options: TrainOptions;
  readonly #parts: RunParts;
  readonly #metrics: MetricsLog;
  readonly #clock: Throughput;
  readonly #spike: SpikeDetector | undefined;
  #progress: Progress;
  #latest: CheckpointInfo | undefined;

  private constructor(options: TrainOptions, parts: RunParts, metrics: MetricsLog) {
    const { start } = parts;
    this.#options = options;
    this.#parts = parts;
    this.#metrics = metrics;
    const { step, data, loss, heldOut, best, tokens } = start?.state ?? emptyProgress(parts);
    this.#progress = { step, data, loss, heldOut, best, tokens };
    this.#latest = start?.checkpoint;
    this.#clock = new Throughput(options.steps - this.#progress.step, start?.state.seconds ?? 0);
    this.#spike = options.spike === false ? undefined : new SpikeDetector(options.spike);
    if (start?.state.spike) this.#spike?.restore(start.state.spike);
  }

  static async open(options: TrainOptions, parts: RunParts): Promise<TrainRun> {
    const metrics = await MetricsLog.open(join(options.out, "metrics.jsonl"), parts.start?.state.step ?? 0);
    return new TrainRun(options, parts, metrics);
  }

  /** Runs to the last step or until the signal, leaving files for either. */
  async finish(): Promise<TrainResult> {
    const { files, steps, out } = this.#options;
    const { step } = this.#parts;
    try {
      if (this.#progress.step < steps) await this.#loop();
      if (this.#progress.step < steps) {
        if (this.#progress.step > 0 && this.#latest?.step !== this.#progress.step) await this.#checkpoint();
        await this.#writeRecord({ status: "interrupted" });
      } else {
        // A process killed after its last checkpoint may have left older ones.
        await pruneCheckpoints(out, this.#options.keepLast ?? 2, this.#progress.best?.step);
        await files.save(step.trainable, out);
        await this.#writeRecord({ status: "complete" });
      }
    } catch (error) {
      await this.#writeRecord({ status: "failed", problem: (error as Error).message }).catch(() => undefined);
      throw error;
    } finally {
      await this.#metrics.close();
    }
    return this.#result();
  }

  async #loop(): Promise<void> {
    const { accumulate = 1, steps, signal } = this.#options;
    const { data } = this.#parts;
    // One batch is read before the loop: its shapes are what the step is compiled for.
    let waiting: TrainBatch | undefined = await data.next();
    const compiled = await this.#prepare(waiting);
    await this.#writeRecord({ status: "running" });
    this.#clock.start();
    while (this.#progress.step < steps && signal?.aborted !== true) {
      const batches: TrainBatch[] = [];
      for (let i = 0; i < accumulate; i++) {
        batches.push(waiting ?? (await data.next()));
        waiting = undefined;
      }
      const suspicious = await this.#step(batches, compiled);
      await this.#metrics.tick();
      await this.#afterStep(suspicious);
    }
  }

  async #prepare(batch: TrainBatch): Promise<CompiledStep> {
    const { step, start } = this.#parts;
    const from = performance.now();
    const compiled = step.compile(batch);
    checkMemory(compiled);
    if (start === undefined) step.initialiseSlots();
    else step.slots = await readSlots(start.checkpoint.folder, step.slotShapes);
    const trainableParameters = countElements(step.trainable);
    this.#options.onEvent?.({
      kind: "start",
      step: this.#progress.step,
      steps: this.#options.steps,
      parameters: countElements(step.frozen) + trainableParameters,
      trainableParameters,
      compileSeconds: (performance.now() - from) / 1000,
      peakBytes: compiled.peakBytes,
      flopsPerStep: compiled.flops,
    });
    return compiled;
  }

  /** Gives true while the loss is suspiciously high. */
  async #step(batches: readonly TrainBatch[], compiled: CompiledStep): Promise<boolean> {
    const { schedule, clipNorm = 1, steps, peakFlops } = this.#options;
    const number = this.#progress.step + 1;
    const lr = this.#parts.schedule.rate(number, { ...schedule, steps });
    const from = performance.now();
    const result: StepResult = await this.#parts.step.run(number, lr, batches);
    this.#clock.addStep(result.tokenCount, (performance.now() - from) / 1000);
    const suspicious = judgeStep(result, this.#spike, { step: number, lr, clipNorm, latest: this.#latest });

    const { loss, gradNorm } = result;
    const tokens = this.#progress.tokens + result.tokenCount;
    this.#progress = { ...this.#progress, step: number, data: this.#parts.data.state(), loss, tokens };
    const { tokensPerSecond, etaSeconds } = this.#clock;
    const share = peakFlops === undefined ? {} : { flopsShare: this.#clock.flopsPerSecond(compiled.flops) / peakFlops };
    const figures = { step: number, loss, lr, gradNorm, tokens, tokensPerSecond, ...share };
    this.#metrics.add(figures);
    this.#options.onEvent?.({ kind: "step", ...figures, etaSeconds });
    return suspicious;
  }

  async #afterStep(suspicious: boolean): Promise<void> {
    const { steps, checkpointEvery, heldOutEvery = checkpointEvery } = this.#options;
    const { step } = this.#progress;
    const due = (every: number | undefined): boolean => step === steps || (every !== undefined && step % every === 0);
    // A checkpoint in the middle of a suspected spike could be a bad one; it waits for the verdict.
    const saves = due(checkpointEvery) && (step === steps || !suspicious);
    if (due(heldOutEvery)) await this.#measure(saves);
    if (saves) await this.#checkpoint();
  }

  async #measure(saves: boolean): Promise<void> {
    const { heldOut: measure, step } = this.#parts;
    if (measure === undefined) return;
    const heldOut = await measure.run(step.trainable, step.frozen);
    const number = this.#progress.step;
    this.#metrics.add({ step: number, heldOut: { ...heldOut } });
    this.#options.onEvent?.({ kind: "heldOut", step: number, ...heldOut });
    const { best } = this.#progress;
    // Only a step that is kept can be the best.
    const isBest = saves && (best === null || heldOut.bitsPerByte < best.bitsPerByte);
    this.#progress = {
      ...this.#progress,
      heldOut,
      best: isBest ? { step: number, bitsPerByte: heldOut.bitsPerByte } : best,
    };
  }

  async #checkpoint(): Promise<void> {
    const { out, files, keepLast = 2, onEvent } = this.#options;
    const { step, config, environment } = this.#parts;
    await this.#metrics.sync();
    const state: RunState = {
      ...this.#progress,
      format: 1,
      config,
      environment,
      spike: this.#spike?.state ?? null,
      seconds: this.#clock.seconds,
    };
    this.#latest = await saveCheckpoint(out, state, step.slots, (folder) => files.save(step.trainable, folder));
    onEvent?.({ kind: "checkpoint", ...this.#latest });
    await pruneCheckpoints(out, keepLast, this.#progress.best?.step);
  }

  /** `run.json`: how the run was made and how far it is. */
  async #writeRecord(record: { readonly status: string; readonly problem?: string }): Promise<void> {
    const { data: _, ...progress } = this.#progress;
    const { config, environment } = this.#parts;
    await writeJsonAtomic(join(this.#options.out, "run.json"), {
      ...record,
      ...progress,
      seconds: this.#clock.seconds,
      config,
      environment,
    });
  }

  #result(): TrainResult {
    const { step, loss, heldOut, best, tokens } = this.#progress;
    return {
      status: step < this.#options.steps ? "interrupted" : "complete",
      step,
      ...(loss === null ? {} : { loss }),
      ...(heldOut === null ? {} : { heldOut }),
      ...(best === null ? {} : { best }),
      tokens,
      tokensPerSecond: this.#clock.averageTokensPerSecond,
      seconds: this.#clock.seconds,
      parameters: this.#parts.step.trainable,
    };
  }
}

/** What is still to be allocated must fit; a run that cannot says so before it takes any. */
function checkMemory({ stateBytes, arenaBytes }: CompiledStep): void {
  const { availableMemory } = hostInfo();
  if (stateBytes + arenaBytes <= availableMemory) return;
  throw new PlinthError(
    `out of memory before start: training needs another ${formatBytes(stateBytes + arenaBytes)} (optimiser state ${formatBytes(stateBytes)}, intermediates ${formatBytes(arenaBytes)}) but only ${formatBytes(availableMemory)} is available`,
    "use a smaller batch size with more accumulation, a shorter context, a smaller model, or LoRA",
  );
}

function emptyProgress({ data }: RunParts): Progress {
  return { step: 0, data: data.state(), loss: null, heldOut: null, best: null, tokens: 0 };
}

function countElements(parameters: Parameters): number {
  return Object.values(parameters).reduce((sum, array) => sum + array.size, 0);
}
