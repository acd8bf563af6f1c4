import { defaultBackend } from "../engine/index.ts";
import { HeldOutMeasure } from "./held-out.ts";
import { codeVersion } from "./identity.ts";
import { createOptimizer } from "./optimizers/index.ts";
import { Prefetcher } from "./prefetch.ts";
import { TrainRun } from "./run.ts";
import { findSchedule } from "./schedules/index.ts";
import { checkOptions, findStart, openFolder, runConfig } from "./start.ts";
import { TrainStep } from "./step.ts";
import type { TrainOptions, TrainResult } from "./types.ts";

/**
 * Trains: the only loop. Everything that differs between objectives, models and adapters comes in as functions.
 * Deterministic given its options: killed at any moment and resumed, it ends with the same bits. Throws PlinthError for
 * bad options, when the run cannot fit in memory, cannot be written, or is not the one being resumed, and when the loss
 * stops being finite or leaves its range.
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  checkOptions(options);
  const { frozen = {}, loss, backend = defaultBackend() } = options;
  const schedule = findSchedule(options.schedule.name);
  const optimizer = createOptimizer(options.optimizer?.name ?? "adamw", options.optimizer?.options);
  const config = runConfig(options);

  const unlock = await openFolder(options.out);
  try {
    const start = await findStart(options, config, (text) => options.onEvent?.({ kind: "note", text }));
    const data = new Prefetcher(options.data);
    if (start !== undefined) await data.restore(start.state.data);
    const step = new TrainStep(start?.parameters ?? options.trainable, frozen, {
      loss,
      optimizer,
      clipNorm: options.clipNorm ?? 1,
      decay: options.decay ?? ((name) => (options.trainable[name]?.shape.length ?? 0) > 1),
      hidden: options.hidden,
      lrScale: options.lrScale,
      accumulate: options.accumulate ?? 1,
      seed: options.seed ?? 0,
      precision: options.precision,
      backend,
    });
    const run = await TrainRun.open(options, {
      step,
      optimizer,
      schedule,
      data,
      heldOut:
        options.heldOut === undefined
          ? undefined
          : new HeldOutMeasure(loss, options.heldOut, { backend, precision: options.precision }),
      config,
      environment: { code: codeVersion(), node: process.version, backend: backend.name },
      start,
    });
    return await run.finish();
  } finally {
    await unlock();
  }
}
