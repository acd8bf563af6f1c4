import {
  type Executable,
  HostRandom,
  jit,
  NdArray,
  type Precision,
  type Tensor,
  unflatten,
} from "../../engine/index.ts";
import type { Model } from "../../models/index.ts";
import {
  causalLm,
  createOptimizer,
  type LossFunction,
  maskedLm,
  type Parameters,
  type TrainBatch,
  TrainStep,
} from "../../train/index.ts";

/** Something to time: `run` does it once more, on the same random tokens. */
export interface Probe {
  readonly run: () => Promise<unknown>;
  readonly executables: readonly Executable[];
  /** Tokens that a run trains on or generates. */
  readonly tokens: number;
  /** Of products and attention. */
  readonly flops: number;
  /** Planned memory of the largest program: weights, state, inputs, outputs and intermediates. */
  readonly peakBytes: number;
  readonly compileSeconds: number;
}

export interface TrainProbeOptions {
  readonly batchSize: number;
  readonly context: number;
  readonly precision: Precision;
  /** Default adamw. */
  readonly optimizer?: string;
}

/** A whole training step of a model. The model's weights are trained in place: they are the probe's from here on. */
export function trainProbe(model: Model, options: TrainProbeOptions): Probe {
  const specs = model.family.parameters(model.config);
  return stepProbe(
    {
      trainable: Object.fromEntries(model.params),
      frozen: {},
      loss: lossOf(model),
      decay: (name) => specs[name]?.decay ?? false,
      vocabSize: model.config.vocabSize,
      reads: model.family.kind === "encoder-decoder",
    },
    options,
  );
}

/** What a step trains, and to what end. */
export interface StepParts {
  readonly trainable: Parameters;
  readonly frozen: Parameters;
  readonly loss: LossFunction;
  readonly decay: (name: string) => boolean;
  readonly vocabSize: number;
  /** The model reads a source: `context` tokens of it, and a quarter of that is written. */
  readonly reads?: boolean;
}

/** A training step on random tokens. The trainable weights are the probe's from here on. */
export function stepProbe(
  { trainable, frozen, loss, decay, vocabSize, reads = false }: StepParts,
  options: TrainProbeOptions,
): Probe {
  const { batchSize, context, precision } = options;
  const batch = randomBatch(vocabSize, [batchSize, context], reads);
  const optimizer = createOptimizer(options.optimizer ?? "adamw", {});
  const step = new TrainStep(trainable, frozen, {
    loss,
    optimizer,
    clipNorm: 1,
    decay,
    accumulate: 1,
    seed: 0,
    precision,
  });
  const from = performance.now();
  const { flops, peakBytes, executables } = step.compile(batch);
  const compileSeconds = (performance.now() - from) / 1000;
  step.initialiseSlots();
  let number = 0;
  const run = () => step.run(++number, 3e-4, [batch]);
  return { run, executables, tokens: batchSize * context, flops, peakBytes, compileSeconds };
}

/** Next-token prediction, or masked language modelling (15 %) for an encoder. */
function lossOf({ family, config }: Model): LossFunction {
  return family.kind === "encoder" ? maskedLm(family, config, { maskTokenId: 0 }) : causalLm(family, config);
}

/** Random tokens and targets, the same for the same shape; with `reads` as span corruption has them of sources of that shape. */
function randomBatch(vocabSize: number, shape: readonly [number, number], reads: boolean): TrainBatch {
  const random = new HostRandom(0);
  const ids = ([B, T]: readonly [number, number]) =>
    NdArray.int32(
      [B, T],
      Int32Array.from({ length: B * T }, () => random.int(vocabSize)),
    );
  const written = reads ? ([shape[0], Math.ceil(shape[1] / 4) + 8] as const) : shape;
  const arrays = { tokens: ids(written), targets: ids(written), ...(reads ? { source: ids(shape) } : {}) };
  const count = written[0] * written[1];
  return { arrays, tokenCount: count, byteCount: count };
}

export interface DecodeProbeOptions {
  readonly batchSize: number;
  /** Length of the cache; the new token stands at its end. */
  readonly context: number;
}

/** One more token for each row of a batch, with a full key-value cache. */
export function decodeProbe(model: Model, { batchSize, context }: DecodeProbeOptions): Probe {
  const { family, config } = model;
  const params = Object.fromEntries(model.params);
  const shapes = family.cacheShape(config, batchSize, context);
  let cache = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, NdArray.zeros("float32", shape)]),
  );
  const row = (value: number) => NdArray.int32([batchSize], new Int32Array(batchSize).fill(value));
  const inputs = {
    tokens: NdArray.int32([batchSize, 1], new Int32Array(batchSize).fill(1)),
    start: row(context - 1),
    lastIndex: row(0),
  };
  type Named = Readonly<Record<string, Tensor>>;
  type Inputs = { readonly tokens: Tensor; readonly start: Tensor; readonly lastIndex: Tensor };
  const forward = jit(
    (weights: Named, before: Named, given: Inputs) => {
      const out = family.forward(unflatten(Object.entries(weights)), { ...given, cache: before }, config);
      return { logits: out.logits, cache: out.cache as Named };
    },
    { donate: [1], name: "decode" },
  );
  const from = performance.now();
  const { executable, stats } = forward.compile(params, cache, inputs);
  const compileSeconds = (performance.now() - from) / 1000;
  const run = async () => {
    cache = (await forward(params, cache, inputs)).cache;
  };
  const { flops, peakBytes } = stats;
  return { run, executables: [executable], tokens: batchSize, flops, peakBytes, compileSeconds };
}

/** Seconds of each of `rounds` runs; stops early once `budgetSeconds` are used up. The caller has run it once before. */
export async function timeRuns(
  probe: Probe,
  { rounds, budgetSeconds, signal }: { rounds: number; budgetSeconds: number; signal: AbortSignal },
): Promise<readonly number[]> {
  const times: number[] = [];
  const begin = performance.now();
  while (times.length < rounds) {
    signal.throwIfAborted();
    const start = performance.now();
    await probe.run();
    times.push((performance.now() - start) / 1000);
    if ((performance.now() - begin) / 1000 > budgetSeconds) break;
  }
  return times;
}
