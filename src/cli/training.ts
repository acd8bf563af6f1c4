import { PlinthError } from "../base/index.ts";
import { defaultBackend, formatBytes, measureLimits, type Precision } from "../engine/index.ts";
import type { LanguageModelOptions, TrainEvent, TrainedModel } from "../train/index.ts";
import { optimizerDefaults, optimizerNames, scheduleNames } from "../train/index.ts";
import type { CommandArgs, CommandIo, OptionSpec } from "./command.ts";
import { notePrecision, precisionOption, readPrecision } from "./precision-flag.ts";

/** Flags of every command that trains. */
export const trainingOptions: Readonly<Record<string, OptionSpec>> = {
  steps: { type: "integer", summary: "optimiser steps" },
  "batch-size": { type: "integer", summary: "rows of a micro-batch" },
  accumulate: { type: "integer", summary: "micro-batches of a step", default: 1 },
  lr: { type: "number", summary: "peak learning rate" },
  "min-lr": { type: "number", summary: "learning rate at the end (default a tenth of --lr for cosine, 0 for wsd)" },
  schedule: { type: "string", choices: scheduleNames(), default: "cosine", summary: "learning rate over time" },
  "warmup-steps": { type: "integer", summary: "steps of linear warmup" },
  "decay-steps": { type: "integer", summary: "steps of the final decay of wsd (default a fifth)" },
  optimizer: { type: "string", choices: optimizerNames(), default: "adamw", summary: "update rule" },
  beta1: { type: "number", summary: "decay of the mean of gradients (default 0.9)" },
  beta2: { type: "number", summary: "decay of the mean of squared gradients (default 0.95; lion 0.99)" },
  momentum: { type: "number", summary: "of sgd (default 0.9) and muon (default 0.95)" },
  "weight-decay": {
    type: "number",
    summary: "decay of matrices; norms and biases have none (default 0.1; sgd, adafactor 0)",
  },
  "clip-norm": { type: "number", summary: "largest global gradient norm", default: 1 },
  ...precisionOption,
  remat: {
    type: "boolean",
    summary: "keep only the blocks' inputs for the gradient: less memory, a sixth to a third more work",
  },
  seed: { type: "integer", summary: "seed of weights, order of data and dropout", default: 0 },
  "checkpoint-every": { type: "integer", summary: "steps between checkpoints (default a tenth of the run)" },
  "keep-last": { type: "integer", summary: "newest checkpoints kept beside the best", default: 2 },
  "held-out-every": { type: "integer", summary: "steps between held-out measurements (default: with checkpoints)" },
  "held-out-batches": { type: "integer", summary: "held-out batches measured at most while training", default: 50 },
  out: { type: "string", summary: "folder of the run; becomes the result's folder" },
  resume: { type: "boolean", summary: "continue the run in --out, bit for bit" },
};

/** Flags that are options of the optimiser. */
const optimizerFlags = { beta1: "beta1", beta2: "beta2", momentum: "momentum", "weight-decay": "weightDecay" } as const;

export interface TrainingDefaults {
  readonly steps: number;
  readonly batchSize: number;
  readonly lr: number;
  readonly warmupSteps: (steps: number) => number;
  readonly weightDecay: number;
  /** The loss is of labels, not of text: bits per byte of it mean nothing. */
  readonly isLabelled?: boolean;
}

/** Flags resolved: what `train` takes, and the plain values that decide the result, under the users' names. */
export interface ResolvedTraining {
  readonly options: Omit<LanguageModelOptions, "data" | "heldOut">;
  readonly config: Readonly<Record<string, string | number>>;
  readonly batchSize: number;
  readonly heldOutBatches: number;
  readonly seed: number;
}

/** Reads the flags of {@link trainingOptions}. Throws PlinthError for what is missing or not possible yet. */
export function readTraining(args: CommandArgs, io: CommandIo, defaults: TrainingDefaults): ResolvedTraining {
  const precision = readPrecision(args);
  notePrecision(io, precision);
  const steps = args.number("steps") ?? defaults.steps;
  const batchSize = args.number("batch-size") ?? defaults.batchSize;
  const lr = args.number("lr") ?? defaults.lr;
  const seed = args.number("seed") ?? 0;
  const minLr = args.number("min-lr");
  const decaySteps = args.number("decay-steps");
  const heldOutEvery = args.number("held-out-every");
  const schedule = {
    name: args.string("schedule") ?? "cosine",
    lr,
    warmupSteps: args.number("warmup-steps") ?? defaults.warmupSteps(steps),
    ...(minLr === undefined ? {} : { minLr }),
    ...(decaySteps === undefined ? {} : { decaySteps }),
  };
  const optimizer = readOptimizer(args, defaults);
  return {
    batchSize,
    seed,
    heldOutBatches: args.number("held-out-batches") ?? 50,
    config: { "batch-size": batchSize, lr, "held-out-batches": args.number("held-out-batches") ?? 50 },
    options: {
      steps,
      accumulate: args.number("accumulate") ?? 1,
      schedule,
      optimizer,
      clipNorm: args.number("clip-norm") ?? 1,
      precision,
      remat: args.boolean("remat"),
      seed,
      out: args.required("out"),
      resume: args.boolean("resume"),
      checkpointEvery: args.number("checkpoint-every") ?? Math.max(1, Math.ceil(steps / 10)),
      keepLast: args.number("keep-last") ?? 2,
      ...(heldOutEvery === undefined ? {} : { heldOutEvery }),
      signal: io.signal,
      onEvent: progressReporter(io, defaults.isLabelled === true),
      ...peakFlops(precision),
    },
  };
}

/** The update rule with every option that the flags set or the defaults give. Throws for flags that the rule has not. */
function readOptimizer(
  args: CommandArgs,
  defaults: TrainingDefaults,
): { readonly name: string; readonly options: Readonly<Record<string, number>> } {
  const name = args.string("optimizer") ?? "adamw";
  const known = optimizerDefaults(name);
  const options: Record<string, number> = { ...known };
  if (known["weightDecay"] !== undefined && known["weightDecay"] !== 0) options["weightDecay"] = defaults.weightDecay;
  for (const [flag, option] of Object.entries(optimizerFlags)) {
    const value = args.number(flag);
    if (value === undefined) continue;
    if (known[option] === undefined) {
      const names = optimizerNames().filter((other) => optimizerDefaults(other)[option] !== undefined);
      throw new PlinthError(
        `--${flag}: ${name} has no such option`,
        `leave it out, or use --optimizer ${names.join(" or ")}`,
      );
    }
    options[option] = value;
  }
  return { name, options };
}

/** The machine's measured limit; only the native engine has one. */
function peakFlops(precision: Precision): { peakFlops?: number } {
  if (defaultBackend().name !== "native") return {};
  const { gflops, bfloat16Gflops } = measureLimits({ seconds: 0.05 });
  return { peakFlops: (precision === "bf16" ? bfloat16Gflops : gflops) * 1e9 };
}

/** Speaks of a run: a line that moves with the steps, and one that stays for what matters. */
function progressReporter(io: CommandIo, isLabelled: boolean): (event: TrainEvent) => void {
  let steps = 0;
  let heldOut = "";
  return (event) => {
    switch (event.kind) {
      case "start": {
        steps = event.steps;
        const trained =
          event.trainableParameters === event.parameters ? "" : `, ${count(event.trainableParameters)} trained`;
        const from = event.step === 0 ? "" : `; continuing after step ${event.step}`;
        io.note(`${count(event.parameters)} parameters${trained}, ${formatBytes(event.peakBytes)} for a step${from}`);
        break;
      }
      case "step": {
        const share = event.flopsShare === undefined ? "" : `  ${(100 * event.flopsShare).toFixed(0)}% of peak`;
        io.progress(
          `step ${event.step}/${steps}  loss ${event.loss.toFixed(4)}${heldOut}  lr ${event.lr.toExponential(1)}  ${count(event.tokensPerSecond)} ${isLabelled ? "labels" : "tokens"}/s${share}  ${duration(event.etaSeconds)} left`,
        );
        break;
      }
      case "heldOut":
        heldOut = `  held-out ${isLabelled ? event.loss.toFixed(4) : `${event.bitsPerByte.toFixed(4)} bits/byte`}`;
        io.note(
          `step ${event.step}: held-out loss ${event.loss.toFixed(4)}${isLabelled ? "" : `, ${event.bitsPerByte.toFixed(4)} bits per byte`}`,
        );
        break;
      case "checkpoint":
        if (io.verbose) io.note(`saved ${event.folder}`);
        break;
      case "note":
        io.note(event.text);
        break;
    }
  };
}

/** Says how a run ended, in words and as the JSON document. */
export function reportTraining(
  io: CommandIo,
  out: string,
  result: TrainedModel,
  { isLabelled = false }: { readonly isLabelled?: boolean } = {},
): void {
  const { status, step, loss, heldOut, best, tokens, tokensPerSecond, seconds } = result;
  if (status === "interrupted") {
    io.note(`stopped after step ${step}; give the same command with --resume to continue (${out})`);
  } else {
    const measured =
      heldOut === undefined
        ? ""
        : `, held-out ${heldOut.loss.toFixed(4)}${isLabelled ? "" : ` (${heldOut.bitsPerByte.toFixed(4)} bits per byte)`}`;
    const unit = isLabelled ? "labels" : "tokens";
    io.print(
      `${out}: ${step} steps, loss ${loss?.toFixed(4)}${measured}, ${count(tokens)} ${unit} at ${count(tokensPerSecond)} ${unit}/s in ${duration(seconds)}`,
    );
  }
  io.result({ model: out, status, steps: step, loss, heldOut, best, tokens, tokensPerSecond, seconds });
}

/** 1234567 as "1.2M". */
function count(n: number): string {
  if (n < 1e4) return n.toFixed(0);
  for (const [size, unit] of [
    [1e9, "B"],
    [1e6, "M"],
  ] as const)
    if (n >= size) return `${(n / size).toFixed(1)}${unit}`;
  return `${(n / 1e3).toFixed(1)}k`;
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number): string => `${n}`.padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
