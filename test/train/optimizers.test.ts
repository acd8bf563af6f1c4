import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { compileProgram } from "../../src/engine/compile/compile-program.ts";
import { add, createBackend, type Graph, mul, NdArray, sum, type Tensor } from "../../src/engine/index.ts";
import { createOptimizer, optimizerNames, TrainStep } from "../../src/train/index.ts";

interface Golden {
  readonly lr: number;
  readonly shapes: Readonly<Record<string, number[]>>;
  readonly start: Readonly<Record<string, number[]>>;
  readonly grads: readonly Readonly<Record<string, number[]>>[];
  readonly cases: readonly {
    readonly name: string;
    readonly options: Readonly<Record<string, number>>;
    readonly params: Readonly<Record<string, number[]>>;
  }[];
}
const golden = JSON.parse(
  readFileSync(join(packageRoot(), "test/golden-optimizers/optimizers.json"), "utf8"),
) as Golden;

const arrays = (values: Readonly<Record<string, number[]>>): Record<string, NdArray> =>
  Object.fromEntries(
    Object.entries(values).map(([name, data]) => [
      name,
      NdArray.float32(golden.shapes[name] as number[], Float32Array.from(data)),
    ]),
  );

/** A step whose loss is the product of parameters and batch, so that the batch is the gradient. */
function makeStep(name: string, options: Readonly<Record<string, number>>, more: object = {}): TrainStep {
  const step = new TrainStep(
    arrays(golden.start),
    {},
    {
      loss: (trainable, _, batch) => ({
        lossSum: Object.entries(trainable)
          .map(([name, param]) => sum(mul(param, batch[name] as Tensor)))
          .reduce((a, b) => add(a, b)),
        tokenCount: sum(batch["count"] as Tensor),
      }),
      optimizer: createOptimizer(name, options),
      clipNorm: Number.POSITIVE_INFINITY,
      decay: () => true,
      accumulate: 1,
      seed: 0,
      ...more,
    },
  );
  step.initialiseSlots();
  return step;
}
const batchOf = (grads: Readonly<Record<string, number[]>>) => ({
  arrays: { ...arrays(grads), count: NdArray.scalar(1) },
  tokenCount: 1,
  byteCount: 1,
});

for (const backendName of ["reference", "native"] as const) {
  for (const { name, options, params } of golden.cases) {
    test(`${name} makes the steps of the reference implementation (${backendName})`, async () => {
      const step = makeStep(name.split(" ")[0] as string, options, { backend: createBackend(backendName) });
      for (const [i, grads] of golden.grads.entries()) await step.run(i + 1, golden.lr, [batchOf(grads)]);
      for (const [key, expected] of Object.entries(params)) {
        step.trainable[key]?.data.forEach((value, i) => {
          const limit = 2e-5 * Math.max(1, Math.abs(expected[i] as number));
          assert.ok(
            Math.abs(value - (expected[i] as number)) <= limit,
            `${key} ${i}: ${value}, expected ${expected[i]}`,
          );
        });
      }
    });
  }
}

test("elementwise optimisers update parameters and state where they are", () => {
  for (const name of optimizerNames().filter((name) => name !== "muon")) {
    let outputs: readonly { readonly aliasInput?: number }[] = [];
    const backend = {
      ...createBackend("native"),
      compile(graph: Graph) {
        const { spec, stats } = compileProgram(graph);
        outputs = spec.outputs;
        return { stats, run: async () => [], startProfile: () => {}, profile: () => [] };
      },
    };
    const step = makeStep(name, {}, { backend, clipNorm: 1 });
    step.compile(batchOf(golden.start));
    const state = Object.values(step.slotShapes).flatMap((shapes) => Object.keys(shapes)).length;
    const inPlace = outputs.filter(({ aliasInput }) => aliasInput !== undefined).length;
    assert.equal(inPlace, Object.keys(golden.start).length + state, name);
  }
});

test("adafactor keeps rows and columns of a matrix, muon one buffer", () => {
  assert.deepEqual(makeStep("adafactor", {}).slotShapes, {
    rows: { tall: [6, 1], wide: [3, 1] },
    columns: { tall: [1, 4], wide: [1, 5] },
    variance: { vector: [5] },
  });
  assert.deepEqual(makeStep("muon", {}, { hidden: (name: string) => name === "tall" }).slotShapes, {
    momentum: { tall: [6, 4] },
    m: { wide: [3, 5], vector: [5] },
    v: { wide: [3, 5], vector: [5] },
  });
});
