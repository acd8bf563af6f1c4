import type { JsonValue } from "../data/index.ts";
import type { Backend, NdArray, Precision, Tensor } from "../engine/index.ts";
import type { ScheduleOptions } from "./schedules/index.ts";

/** Parameters by name. */
export type Parameters = Readonly<Record<string, NdArray>>;

/**
 * Traced once per batch signature. Gives the SUM of the loss over the target tokens of the batch, in nats, and how many
 * there are, both float32 scalars, so that micro-batches of different counts add up. `key` (int32[2], new for every
 * micro-batch) feeds dropout and is absent when evaluating.
 */
export type LossFunction = (
  trainable: Readonly<Record<string, Tensor>>,
  frozen: Readonly<Record<string, Tensor>>,
  batch: Readonly<Record<string, Tensor>>,
  key: Tensor | undefined,
) => {
  readonly lossSum: Tensor;
  readonly tokenCount: Tensor;
  /** What was predicted, logits[N,V] of targets int32[N]; ignored targets do not count. Only where somebody asks. */
  readonly predictions?: () => { readonly logits: Tensor; readonly targets: Tensor };
};

/** What a step reads: named arrays of one signature throughout the run, and what they count for. */
export interface TrainBatch {
  readonly arrays: Readonly<Record<string, NdArray>>;
  /** Target tokens. */
  readonly tokenCount: number;
  /** Bytes of text those tokens stand for; gives bits per byte. */
  readonly byteCount: number;
}

/** An endless, seeded stream of batches that can be put back to any point. */
export interface TrainData {
  next(): Promise<TrainBatch>;
  /** Position after the last batch given; plain JSON. */
  state(): JsonValue;
  restore(state: JsonValue): void | Promise<void>;
}

/** How a checkpoint's parameters become files and come back. Values must survive exactly: float32 stays float32. */
export interface ModelFiles {
  /** Writes into an existing folder. */
  save(parameters: Parameters, folder: string): Promise<void>;
  load(folder: string): Promise<Parameters>;
}

export interface TrainOptions {
  /** Updated in place: the arrays given here are consumed. */
  readonly trainable: Parameters;
  readonly frozen?: Parameters;
  readonly loss: LossFunction;
  readonly data: TrainData;
  /** Held-out batches, the same ones every time; measured in bits per byte. */
  readonly heldOut?: () => AsyncIterable<TrainBatch> | Iterable<TrainBatch>;
  readonly files: ModelFiles;

  readonly steps: number;
  /** Micro-batches per step; default 1. */
  readonly accumulate?: number;
  readonly optimizer?: { readonly name: string; readonly options?: Readonly<Record<string, number>> };
  readonly schedule: { readonly name: string } & Omit<ScheduleOptions, "steps">;
  /** Largest global gradient norm; default 1. Infinity turns clipping off. */
  readonly clipNorm?: number;
  /** Whether weight decay applies to a parameter; default: to those with two or more axes. */
  readonly decay?: (name: string) => boolean;
  /** Whether a parameter is a matrix inside the network, not embedding or head; default: it has two axes. */
  readonly hidden?: ((name: string) => boolean) | undefined;
  /** What a parameter's learning rate is multiplied by (`muP` uses it); default 1 for all. Weight decay follows the rate. */
  readonly lrScale?: ((name: string) => number) | undefined;
  /** Seeds dropout; default 0. */
  readonly seed?: number;

  /** Folder of the run: `checkpoints/`, `metrics.jsonl`, and in the end the model. */
  readonly out: string;
  readonly resume?: boolean;
  /** Everything that decides the result, with the names users know; stored, and compared when resuming. */
  readonly config?: Readonly<Record<string, JsonValue>>;
  /** Content hash of the training data; stored, and compared when resuming. */
  readonly dataHash?: string;
  /** Steps between checkpoints; the last step always has one. Default: only the last. */
  readonly checkpointEvery?: number;
  /** Newest checkpoints kept beside the best; default 2. */
  readonly keepLast?: number;
  /** Steps between held-out measurements; default: with every checkpoint. */
  readonly heldOutEvery?: number;
  /** When to stop for a loss spike; false = never. */
  readonly spike?: Partial<SpikeOptions> | false;

  /** "bf16": products on bfloat16 operands, also when measuring on held-out data; default "f32". */
  readonly precision?: Precision;
  readonly backend?: Backend;
  /** The machine's limit in floating-point operations per second, for the share reported; absent = not reported. */
  readonly peakFlops?: number;
  /** Abort to stop after the running step with a checkpoint. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TrainEvent) => void;
}

export interface SpikeOptions {
  /** A step is suspicious above mean + `sigmas` standard deviations of the recent losses. */
  readonly sigmas: number;
  /** Suspicious steps in a row that stop the run. */
  readonly patience: number;
  /** Recent losses looked at; no verdict before a quarter of them exist. */
  readonly window: number;
}

export interface StepEvent {
  readonly kind: "step";
  readonly step: number;
  /** Mean over the step's target tokens, in nats, before the update. */
  readonly loss: number;
  readonly lr: number;
  /** Global norm of the gradient of the mean loss, before clipping. */
  readonly gradNorm: number;
  /** Target tokens since the beginning of the run. */
  readonly tokens: number;
  /** Since this process started, checkpoints and held-out measurements not counted. */
  readonly tokensPerSecond: number;
  /** Matrix-product work done per second as a share of `peakFlops`. */
  readonly flopsShare?: number;
  /** Seconds left, everything counted. */
  readonly etaSeconds: number;
}

export interface HeldOut {
  readonly bitsPerByte: number;
  /** Mean per target token, in nats. */
  readonly loss: number;
  readonly tokens: number;
}

export type TrainEvent =
  | {
      readonly kind: "start";
      /** Steps already done by the checkpoint resumed from; 0 for a new run. */
      readonly step: number;
      readonly steps: number;
      readonly parameters: number;
      readonly trainableParameters: number;
      readonly compileSeconds: number;
      readonly peakBytes: number;
      readonly flopsPerStep: number;
    }
  | StepEvent
  | ({ readonly kind: "heldOut"; readonly step: number } & HeldOut)
  | { readonly kind: "checkpoint"; readonly step: number; readonly folder: string }
  | { readonly kind: "note"; readonly text: string };

export interface TrainResult {
  /** "interrupted": stopped by the signal, with a checkpoint of `step`. */
  readonly status: "complete" | "interrupted";
  readonly step: number;
  /** Mean loss of the last step; absent when none was made. */
  readonly loss?: number;
  readonly heldOut?: HeldOut;
  readonly best?: { readonly step: number; readonly bitsPerByte: number };
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Time spent by this process and those it resumes. */
  readonly seconds: number;
  readonly parameters: Parameters;
}
