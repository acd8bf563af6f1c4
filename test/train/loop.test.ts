import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { NdArray } from "../../src/engine/index.ts";
import { listCheckpoints, type StepEvent, type TrainBatch, type TrainEvent, train } from "../../src/train/index.ts";
import { bytesOf, ToyData, temporaryFolder, toyLoss, toyOptions, toyParameters } from "./toy.ts";

async function heldOutBatches(): Promise<TrainBatch[]> {
  const data = new ToyData(16, 77);
  return [await data.next(), await data.next()];
}

async function metricsOf(out: string): Promise<Record<string, number>[]> {
  const text = await readFile(join(out, "metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number>);
}

test("a run learns, measures held-out text in bits per byte, and leaves model, metrics, checkpoints and record", async (t) => {
  const out = await temporaryFolder(t);
  const batches = await heldOutBatches();
  const events: TrainEvent[] = [];
  const result = await train(
    toyOptions(out, {
      steps: 60,
      checkpointEvery: 15,
      heldOut: () => batches,
      peakFlops: 1e9,
      onEvent: (event) => events.push(event),
    }),
  );
  assert.equal(result.status, "complete");
  assert.equal(result.step, 60);
  const steps = events.filter((event): event is StepEvent => event.kind === "step");
  assert.equal(steps.length, 60);
  assert.ok((steps.at(-1)?.loss as number) < (steps[0]?.loss as number) - 0.5, "the loss should fall");
  assert.ok(
    steps.every(
      ({ gradNorm, tokensPerSecond, flopsShare }) => gradNorm > 0 && tokensPerSecond > 0 && (flopsShare ?? 0) > 0,
    ),
  );
  assert.equal(result.tokens, steps.at(-1)?.tokens);
  const { bitsPerByte, loss, tokens } = result.heldOut as NonNullable<typeof result.heldOut>;
  assert.equal(
    tokens,
    batches.reduce((sum, batch) => sum + batch.tokenCount, 0),
  );
  // One byte per token here.
  assert.ok(Math.abs(bitsPerByte - loss / Math.LN2) < 1e-9);
  const measured = events.flatMap((event) => (event.kind === "heldOut" ? [event] : []));
  assert.deepEqual(
    measured.map(({ step }) => step),
    [15, 30, 45, 60],
  );
  assert.equal(result.best?.bitsPerByte, Math.min(...measured.map((event) => event.bitsPerByte)));

  const kept = (await listCheckpoints(out)).map(({ step }) => step);
  assert.deepEqual(
    kept,
    [...new Set([result.best?.step as number, 45, 60])].sort((a, b) => a - b),
  );
  const metrics = await metricsOf(out);
  assert.deepEqual(
    metrics.filter((line) => "loss" in line).map(({ step, loss }) => [step, loss]),
    steps.map(({ step, loss }) => [step, loss]),
  );
  const record = JSON.parse(await readFile(join(out, "run.json"), "utf8"));
  assert.equal(record.status, "complete");
  assert.equal(record.config.steps, 60);
  assert.match(record.environment.code, /^\d+\.\d+\.\d+/);
  assert.ok((await readdir(out)).includes("model.safetensors"));
});

for (const accumulate of [1, 3]) {
  test(`stopped and resumed, a run ends with the same bits (accumulate ${accumulate}, dropout on)`, async (t) => {
    const options = { loss: toyLoss({ rate: 0.3 }), accumulate, steps: 14, checkpointEvery: 4 };
    const whole = await temporaryFolder(t);
    const expected = await train(toyOptions(whole, { ...options, data: new ToyData(8) }));
    const out = await temporaryFolder(t);
    for (const stopAt of [3, 9, 100]) {
      const stop = new AbortController();
      const result = await train(
        toyOptions(out, {
          ...options,
          data: new ToyData(8),
          resume: true,
          signal: stop.signal,
          onEvent: (event) => event.kind === "step" && event.step === stopAt && stop.abort(),
        }),
      );
      assert.equal(result.status, stopAt < 14 ? "interrupted" : "complete");
      assert.equal(result.step, Math.min(stopAt, 14));
      if (result.status === "complete") {
        assert.deepEqual(bytesOf(result.parameters), bytesOf(expected.parameters));
        assert.equal(result.tokens, expected.tokens);
        assert.equal(result.loss, expected.loss);
      }
    }
    const figures = (lines: Record<string, number>[]) =>
      lines.map(({ step, loss, lr, gradNorm }) => [step, loss, lr, gradNorm]);
    assert.deepEqual(figures(await metricsOf(out)), figures(await metricsOf(whole)));
  });
}

test("dropout really takes part: another seed gives another result", async (t) => {
  const options = { loss: toyLoss({ rate: 0.3 }), steps: 4 };
  const run = async (seed: number) =>
    bytesOf((await train(toyOptions(await temporaryFolder(t), { ...options, data: new ToyData(8), seed }))).parameters);
  const first = await run(0);
  assert.deepEqual(await run(0), first);
  assert.notDeepEqual(await run(1), first);
});

test("resuming with other data, configuration or seed is an error that names the field", async (t) => {
  const out = await temporaryFolder(t);
  const options = { config: { lr: 0.05, "batch-size": 8 }, dataHash: "aaaa", seed: 1 };
  await train(toyOptions(out, { ...options, data: new ToyData(8) }));
  const again = (change: object) =>
    train(toyOptions(out, { ...options, data: new ToyData(8), resume: true, ...change }));
  const fix = "Fix: give the values it was started with, or start a new run in another --out.";
  const started = `but the run in ${out} was started with`;
  await assert.rejects(again({ dataHash: "bbbb" }), {
    message: `--resume: "dataHash" is "bbbb" now, ${started} "aaaa". ${fix}`,
  });
  await assert.rejects(again({ seed: 2 }), { message: `--resume: "seed" is 2 now, ${started} 1. ${fix}` });
  await assert.rejects(again({ config: { lr: 0.05, "batch-size": 16 } }), {
    message: `--resume: "batch-size" is 16 now, ${started} 8. ${fix}`,
  });
  await assert.rejects(again({ steps: 20 }), { message: `--resume: "steps" is 20 now, ${started} 12. ${fix}` });
  await assert.rejects(again({ resume: false }), {
    message: `${out} already holds a run at step 12. Fix: continue it with --resume, or choose another --out.`,
  });
  assert.equal((await again({})).status, "complete");
});

test("a loss that is not finite stops the run, saves nothing bad and says where to go on", async (t) => {
  const out = await temporaryFolder(t);
  class Poisoned extends ToyData {
    #count = 0;
    override async next() {
      const batch = await super.next();
      const weight = ++this.#count === 7 ? Number.POSITIVE_INFINITY : 1;
      return { ...batch, arrays: { ...batch.arrays, weight: NdArray.scalar(weight) } };
    }
  }
  const plain = toyLoss();
  const { mul } = await import("../../src/engine/index.ts");
  await assert.rejects(
    train(
      toyOptions(out, {
        data: new Poisoned(8),
        checkpointEvery: 3,
        loss: (trainable, frozen, batch, key) => {
          const { lossSum, tokenCount } = plain(trainable, frozen, batch, key);
          return { lossSum: mul(lossSum, batch.weight as typeof lossSum), tokenCount };
        },
      }),
    ),
    (error: Error) => {
      assert.match(
        error.message,
        /^step 7: not finite: loss Infinity, gradient norm (NaN|Infinity), first in the gradient of embed\.weight \(learning rate /,
      );
      assert.match(
        error.message,
        /Fix: step 6 is the last good one: begin a new run from .*step-000006 \(--init\) with a lower learning rate/,
      );
      return true;
    },
  );
  assert.deepEqual(
    (await listCheckpoints(out)).map(({ step }) => step),
    [3, 6],
  );
  const record = JSON.parse(await readFile(join(out, "run.json"), "utf8"));
  assert.equal(record.status, "failed");
  assert.match(record.problem, /^step 7: not finite/);
});

test("a loss that leaves its range stops the run; no checkpoint is made while it is in doubt", async (t) => {
  const out = await temporaryFolder(t);
  // From step 20 the learning rate is absurd.
  await assert.rejects(
    train(
      toyOptions(out, {
        steps: 60,
        schedule: { name: "wsd", lr: 60, warmupSteps: 59 },
        checkpointEvery: 1,
        clipNorm: Number.POSITIVE_INFINITY,
        spike: { sigmas: 3, patience: 4, window: 12 },
      }),
    ),
    (error: Error) => {
      const match =
        /^step (\d+): the loss has left its range: .* for 4 steps .*Fix: step (\d+) is the last good one/.exec(
          error.message,
        );
      assert.ok(match !== null, error.message);
      assert.equal(Number(match[1]) - Number(match[2]), 4);
      return true;
    },
  );
});

test("options that cannot be meant are refused by name", async (t) => {
  const out = await temporaryFolder(t);
  const refuse = (change: object, message: RegExp) => assert.rejects(train(toyOptions(out, change)), { message });
  await refuse({ steps: 0 }, /^steps: expected a whole number of at least 1, got 0/);
  await refuse({ accumulate: 1.5 }, /^accumulate: expected a whole number/);
  await refuse({ schedule: { name: "cosine", lr: Number.NaN } }, /^lr: expected a learning rate of 0 or more, got NaN/);
  await refuse({ schedule: { name: "cosine", lr: 1, warmupSteps: 99 } }, /^warmupSteps is 99, more than the 12 steps/);
  await refuse({ trainable: {} }, /^there is nothing to train/);
  await refuse(
    { trainable: { ...toyParameters(), ids: NdArray.int32([1], [1]) } },
    /^ids is int32, but trained parameters are float32/,
  );
});
