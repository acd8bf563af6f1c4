import { HostRandom, hostInfo, measureLimits, NdArray } from "../src/engine/index.ts";
import { countParameters, gpt2, initModel, type Model } from "../src/models/index.ts";
import { causalLm, createOptimizer, float32Parameters, TrainStep } from "../src/train/index.ts";
import { type BenchRow, median, missingModule, Peer, settle } from "./peer.ts";

/** A training step to race: a GPT-2 with tied embeddings on random tokens, AdamW, gradient clipping, no dropout. */
export interface StepShape {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly vocab: number;
  readonly context: number;
  readonly batch: number;
}

/** 12.3M parameters: 6 layers, width 384, 8 x 256 tokens. */
export const gpt12m: StepShape = { layers: 6, width: 384, heads: 6, vocab: 4096, context: 256, batch: 8 };

const rounds = 11;
const targetRatio = 1.3;

/** One AdamW step of the 12M GPT against PyTorch in float32, the two sides taking turns. */
export async function benchGptStep(shape: StepShape = gpt12m): Promise<readonly BenchRow[]> {
  const own = await ownStep(shape);
  const absent = missingModule("torch");
  const peer = absent === undefined ? new Peer("torch_gpt.py") : undefined;
  const version = await peer?.ask<{ version: string; parameters: number }>({
    ...shape,
    dtype: "float32",
    threads: hostInfo().threads,
  });
  await own.run();
  await peer?.ask({ steps: 1 });
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let i = 0; i < rounds; i++) {
    await settle();
    ours.push(await own.run());
    await settle();
    if (peer !== undefined) theirs.push((await peer.ask<{ seconds: number }>({ steps: 1 })).seconds);
  }
  const memory = await peer?.ask<{ peakBytes: number }>({ steps: 1 });
  peer?.close();

  const tokens = shape.batch * shape.context;
  const value = tokens / median(ours);
  const limit = measureLimits({ seconds: 1 }).gflops;
  const gflops = own.flops / median(ours) / 1e9;
  const rows: BenchRow[] = [
    {
      name: `GPT step ${(own.parameters / 1e6).toFixed(1)}M, ${shape.batch}x${shape.context} tokens, float32`,
      value,
      unit: "tokens/s",
      ...(version === undefined
        ? { note: `no peer: ${absent}` }
        : {
            peer: `PyTorch ${version.version.split("+")[0]}`,
            peerValue: tokens / median(theirs),
            ratio: median(theirs) / median(ours),
            target: targetRatio,
          }),
    },
    {
      name: "  of it matrix products and attention",
      value: gflops,
      unit: "GFLOP/s",
      peer: "machine limit",
      peerValue: limit,
      ratio: gflops / limit,
    },
  ];
  if (memory !== undefined) {
    const [mine, other] = [own.peakBytes / 2 ** 20, memory.peakBytes / 2 ** 20];
    rows.push({
      name: "  planned memory of the step",
      value: mine,
      unit: "MiB",
      peer: "PyTorch process",
      peerValue: other,
      ratio: other / mine,
    });
  }
  return rows;
}

/** A step of ours on random tokens; `run` gives seconds. */
export async function ownStep(shape: StepShape) {
  const config = gpt2.createConfig({
    vocabSize: shape.vocab,
    contextLength: shape.context,
    hiddenSize: shape.width,
    numLayers: shape.layers,
    numHeads: shape.heads,
  });
  const model = initModel(gpt2, config, { seed: 0 }) as unknown as Model;
  const specs = model.family.parameters(model.config);
  const step = new TrainStep(
    float32Parameters(model),
    {},
    {
      loss: causalLm(model.family, model.config),
      optimizer: createOptimizer("adamw", { beta2: 0.95, weightDecay: 0.1 }),
      clipNorm: 1,
      decay: (name) => specs[name]?.decay ?? false,
      accumulate: 1,
      seed: 0,
    },
  );
  const random = new HostRandom(0);
  const ids = () =>
    NdArray.int32(
      [shape.batch, shape.context],
      Int32Array.from({ length: shape.batch * shape.context }, () => random.int(shape.vocab)),
    );
  const count = shape.batch * shape.context;
  const batch = { arrays: { tokens: ids(), targets: ids() }, tokenCount: count, byteCount: count };
  const { flops, peakBytes } = step.compile(batch);
  step.initialiseSlots();
  let number = 0;
  const run = async (): Promise<number> => {
    const start = performance.now();
    await step.run(++number, 6e-4, [batch]);
    return (performance.now() - start) / 1000;
  };
  return { run, flops, peakBytes, parameters: countParameters(model) };
}
