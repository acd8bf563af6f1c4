import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackend, NdArray } from "../../src/engine/index.ts";
import { gpt2, gptNeoX, initModel, llama, type Model, palm } from "../../src/models/index.ts";
import { causalLm, createOptimizer, muP, type Parameters, TrainStep, withMuP } from "../../src/train/index.ts";
import { ToyData, toyLoss, toyParameters } from "./toy.ts";

const backend = createBackend("reference");

function model(width: number, family = gpt2 as unknown as typeof llama): Model {
  const config = family.createConfig({
    vocabSize: 32,
    contextLength: 8,
    hiddenSize: width,
    numLayers: 2,
    numHeads: width / 8,
    tieWordEmbeddings: false,
  });
  return initModel(family, config, { seed: 1 }) as unknown as Model;
}

function deviation(array: NdArray | undefined): number {
  const values = array?.data as Float32Array;
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
}

test("a parameter's update is its learning rate's: twice, unchanged, not at all", async () => {
  const after = async (scale: (name: string) => number) => {
    const step = new TrainStep(
      toyParameters(),
      {},
      {
        loss: toyLoss(),
        optimizer: createOptimizer("sgd", { momentum: 0 }),
        clipNorm: Number.POSITIVE_INFINITY,
        decay: () => false,
        lrScale: scale,
        accumulate: 1,
        seed: 0,
        backend,
      },
    );
    step.initialiseSlots();
    await step.run(1, 0.1, [await new ToyData(8).next()]);
    return step.trainable;
  };
  const start = toyParameters();
  const [plain, scaled] = [
    await after(() => 1),
    await after((name) => (name === "head.weight" ? 2 : name === "head.bias" ? 0 : 1)),
  ];
  const values = (from: Parameters, name: string): number[] => [...((from[name] as NdArray).data as Float32Array)];
  const change = (end: Parameters, name: string): number[] =>
    values(end, name).map((x, i) => x - (values(start, name)[i] as number));
  assert.deepEqual(change(scaled, "embed.weight"), change(plain, "embed.weight"));
  assert.ok(change(scaled, "head.bias").every((x) => x === 0));
  const [once, twice] = [change(plain, "head.weight"), change(scaled, "head.weight")];
  assert.ok(once.some((x) => Math.abs(x) > 1e-4));
  for (const [i, x] of once.entries()) assert.ok(Math.abs(2 * x - (twice[i] as number)) < 1e-6);
});

for (const family of [gpt2, llama, gptNeoX] as unknown as (typeof llama)[]) {
  test(`${family.modelType}: matrices start by 1/sqrt(m), the head by 1/m, all else as it is`, () => {
    const plain = model(32, family);
    const scaled = withMuP(plain, 8);
    const scale = muP(plain, 8);
    for (const [name, array] of plain.params) {
      const isHead = name === "lm_head.weight" || name === "embed_out.weight";
      const isHidden = !isHead && array.shape.length === 2 && !/wte|wpe|embed_tokens|embed_in/.test(name);
      const expected = isHead ? { init: 1 / 4, lr: 1 / 4 } : isHidden ? { init: 1 / 2, lr: 1 / 4 } : { init: 1, lr: 1 };
      assert.deepEqual(scale(name), expected, name);
      const ratio = deviation(scaled.params.get(name)) / deviation(array);
      if (deviation(array) > 0) assert.ok(Math.abs(ratio - expected.init) < 1e-6, name);
    }
  });
}

test("the same learning rate: with muP four steps gain alike at all widths, without it the wide model overshoots", async () => {
  const moved = async (width: number, isMuP: boolean): Promise<number> => {
    const plain = model(width);
    const started = isMuP ? withMuP(plain, 8) : plain;
    const scale = muP(plain, 8);
    const step = new TrainStep(
      Object.fromEntries(started.params),
      {},
      {
        loss: causalLm(plain.family, plain.config),
        optimizer: createOptimizer("adamw", { weightDecay: 0 }),
        clipNorm: 1,
        decay: () => false,
        ...(isMuP ? { lrScale: (name: string) => scale(name).lr } : {}),
        accumulate: 1,
        seed: 0,
      },
    );
    step.initialiseSlots();
    const tokens = Int32Array.from({ length: 32 }, (_, i) => (i * 7) % 31);
    const targets = tokens.map((id) => (id + 3) % 31);
    const arrays = { tokens: NdArray.int32([4, 8], tokens), targets: NdArray.int32([4, 8], targets) };
    let [first, last] = [0, 0];
    for (let i = 1; i <= 4; i++) {
      const { loss } = await step.run(i, 0.02, [{ arrays, tokenCount: 32, byteCount: 32 }]);
      if (i === 1) first = loss;
      last = loss;
    }
    return first - last;
  };
  const widths = [16, 128];
  const ratio = async (isMuP: boolean): Promise<number> =>
    (await moved(widths[1] as number, isMuP)) / (await moved(widths[0] as number, isMuP));
  const [scaled, standard] = [await ratio(true), await ratio(false)];
  assert.ok(Math.abs(scaled - 1) < 0.2, `${scaled}`);
  assert.ok(Math.abs(standard - 1) > 0.5, `${standard}`);
});

test("a head that is tied is refused", () => {
  const config = palm.createConfig({ vocabSize: 32, contextLength: 8, hiddenSize: 16, numLayers: 1, numHeads: 2 });
  assert.throws(() => muP({ family: palm, config } as unknown as Model, 8), /the head of this palm is tied/);
});
