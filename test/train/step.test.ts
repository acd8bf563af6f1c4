import assert from "node:assert/strict";
import { test } from "node:test";
import { add, createBackend, mul, NdArray, sum, type Tensor } from "../../src/engine/index.ts";
import {
  createOptimizer,
  type LossFunction,
  type Parameters,
  type TrainBatch,
  TrainStep,
} from "../../src/train/index.ts";
import { ToyData, toyLoss, toyParameters } from "./toy.ts";

const backend = createBackend("reference");

function makeStep(trainable: Parameters, options: Partial<ConstructorParameters<typeof TrainStep>[2]> = {}): TrainStep {
  const step = new TrainStep(
    trainable,
    {},
    {
      loss: toyLoss(),
      optimizer: createOptimizer("adamw"),
      clipNorm: 1,
      decay: (name) => name.endsWith(".weight"),
      accumulate: 1,
      seed: 0,
      backend,
      ...options,
    },
  );
  step.initialiseSlots();
  return step;
}

function values(parameters: Parameters): number[] {
  return Object.values(parameters).flatMap(({ data }) => [...data]);
}

function assertClose(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  assert.equal(actual.length, expected.length);
  const worst = Math.max(...actual.map((x, i) => Math.abs(x - (expected[i] as number))));
  assert.ok(worst <= tolerance, `largest difference ${worst}`);
}

/** One batch of n rows cut into parts of equal size. */
function cut(batch: TrainBatch, parts: number): TrainBatch[] {
  return Array.from({ length: parts }, (_, i) => {
    const arrays = Object.fromEntries(
      Object.entries(batch.arrays).map(([name, array]) => {
        const size = array.size / parts;
        return [name, NdArray.int32([size], array.data.slice(i * size, (i + 1) * size) as Int32Array)];
      }),
    );
    const tokenCount = [...(arrays.targets?.data ?? [])].filter((id) => id !== -100).length;
    return { arrays, tokenCount, byteCount: tokenCount };
  });
}

test("accumulating 4 micro-batches of 2 equals one batch of 8, with unequal token counts", async () => {
  const whole = makeStep(toyParameters());
  const parts = makeStep(toyParameters(), { accumulate: 4 });
  const data = new ToyData(8);
  for (let step = 1; step <= 4; step++) {
    const batch = await data.next();
    const micro = cut(batch, 4);
    if (step === 1) assert.ok(new Set(micro.map((b) => b.tokenCount)).size > 1, "the micro-batches should differ");
    const a = await whole.run(step, 0.05, [batch]);
    const b = await parts.run(step, 0.05, micro);
    assert.equal(b.tokenCount, a.tokenCount);
    assertClose([b.loss, b.gradNorm], [a.loss, a.gradNorm], 1e-5);
    assertClose(values(parts.trainable), values(whole.trainable), 1e-5);
  }
});

test("the programs of an accumulating step share their memory, so the larger need is what counts", async () => {
  const batch = await new ToyData(8).next();
  const { arenaBytes, executables } = makeStep(toyParameters(), { accumulate: 2 }).compile(batch);
  const needs = executables.map(({ stats }) => stats.arenaBytes);
  assert.equal(needs.length, 2);
  assert.ok(needs.every((bytes) => bytes > 0));
  assert.equal(arenaBytes, Math.max(...needs));
});

/** loss = sum over tokens of (w . [3, 4]); its gradient is known. */
const linearLoss: LossFunction = (trainable, _frozen, batch) => ({
  lossSum: sum(mul(trainable.w as Tensor, batch.x as Tensor)),
  tokenCount: add(mul(sum(batch.x as Tensor), 0), 1),
});
const linearBatch: TrainBatch = { arrays: { x: NdArray.float32([2], [3, 4]) }, tokenCount: 1, byteCount: 1 };

test("the gradient is clipped to the global norm and reported before clipping", async () => {
  for (const [clipNorm, factor] of [
    [1, 1 / 5],
    [2.5, 1 / 2],
    [10, 1],
    [Number.POSITIVE_INFINITY, 1],
  ] as const) {
    const step = makeStep({ w: NdArray.float32([2], [0, 0]) }, { loss: linearLoss, clipNorm, decay: () => false });
    const result = await step.run(1, 0.1, [linearBatch]);
    assertClose([result.gradNorm], [5], 1e-6);
    // m = (1 - beta1) g after the first step: what the optimiser saw.
    assertClose(
      [...(step.slots.m?.w?.data ?? [])],
      [3, 4].map((g) => 0.1 * g * factor),
      1e-6,
    );
  }
});

test("AdamW follows its formula in float64, and decays only what it should", async () => {
  const start = [1, -2];
  for (const decays of [true, false]) {
    const step = makeStep(
      { w: NdArray.float32([2], start) },
      { loss: linearLoss, clipNorm: Number.POSITIVE_INFINITY, decay: () => decays },
    );
    const p = [...start];
    const [m, v] = [
      [0, 0],
      [0, 0],
    ];
    for (let t = 1; t <= 10; t++) {
      const lr = 0.01 * t;
      await step.run(t, lr, [linearBatch]);
      for (const [i, g] of [3, 4].entries()) {
        p[i] = (p[i] as number) * (1 - lr * (decays ? 0.1 : 0));
        m[i] = 0.9 * (m[i] as number) + 0.1 * g;
        v[i] = 0.95 * (v[i] as number) + 0.05 * g * g;
        const step = (m[i] as number) / (1 - 0.9 ** t);
        p[i] = (p[i] as number) - (lr * step) / (Math.sqrt((v[i] as number) / (1 - 0.95 ** t)) + 1e-8);
      }
    }
    assertClose(values(step.trainable), p, 1e-5);
  }
});

test("learning rate and step are runtime values: one program for the whole run", async () => {
  const step = makeStep(toyParameters());
  const data = new ToyData(8);
  for (let n = 1; n <= 3; n++) await step.run(n, 0.1 / n, [await data.next()]);
  assert.equal(step.programs, 1);
});

test("a parameter whose gradient is not finite is named", async () => {
  const trainable = toyParameters();
  (trainable["head.bias"] as NdArray).data[2] = Number.NaN;
  const step = makeStep(trainable);
  const result = await step.run(1, 0.1, [await new ToyData(8).next()]);
  assert.ok(Number.isNaN(result.loss));
  assert.equal(result.badParameter, "embed.weight");
});

test("an optimiser refuses unknown names and options", () => {
  assert.throws(() => createOptimizer("adam"), { message: 'optimizer "adam" is not known. Fix: use "adamw".' });
  assert.throws(() => createOptimizer("adamw", { beta3: 1 }), {
    message: 'optimizer adamw has no option "beta3". Fix: use beta1.',
  });
});
