import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findAdapter, initLora, mergeLora, unmergeLora } from "../../src/adapt/index.ts";
import { NdArray } from "../../src/engine/index.ts";
import { initModel, llama, type Model, type ModelFamily, quantizeModel } from "../../src/models/index.ts";
import { causalLm, createOptimizer, TrainStep } from "../../src/train/index.ts";

const family = llama as unknown as ModelFamily;
function tiny(): Model {
  const dials = { vocabSize: 64, contextLength: 16, hiddenSize: 64, numLayers: 2, numHeads: 4, numKvHeads: 2 };
  return initModel(family, family.createConfig(dials), { seed: 1 });
}

test("qlora learns on 4-bit weights and keeps an adapter that lora reads", async () => {
  const model = tiny();
  const options = { rank: 4, seed: 2 };
  const adaptation = findAdapter("qlora").adapt(model, options);
  const { trainable, frozen, assemble, decay, files, result } = adaptation;
  assert.deepEqual(Object.keys(trainable), Object.keys(findAdapter("lora").adapt(model, options).trainable));
  assert.equal(frozen["model.layers.0.mlp.up_proj.weight"]?.dtype, "int32");
  const step = new TrainStep(trainable, frozen, {
    loss: causalLm(family, model.config, { assemble }),
    optimizer: createOptimizer("adamw", {}),
    decay,
    accumulate: 1,
    clipNorm: 1,
    seed: 0,
  });
  const tokens = Int32Array.from({ length: 32 }, (_, i) => (i * i) % 61);
  const targets = Int32Array.from({ length: 32 }, (_, i) => ((i + 1) * (i + 1)) % 61);
  const batch = {
    arrays: { tokens: NdArray.int32([2, 16], tokens), targets: NdArray.int32([2, 16], targets) },
    tokenCount: 32,
    byteCount: 32,
  };
  step.compile(batch);
  step.initialiseSlots();
  const losses: number[] = [];
  for (let i = 1; i <= 30; i++) losses.push((await step.run(i, 1e-2, [batch])).loss);
  const [first, last] = [losses[0] as number, losses.at(-1) as number];
  assert.ok(Math.abs(first - Math.log(64)) < 0.3 && last < first - 0.5, `loss ${first} to ${last}`);

  const folder = await mkdtemp(join(tmpdir(), "plinth-qlora-"));
  try {
    const trained = step.trainable;
    await files.save(trained, folder);
    const config = JSON.parse(await readFile(join(folder, "adapter_config.json"), "utf8"));
    assert.equal(config.peft_type, "LORA");
    const back = await findAdapter("lora").adapt(model, options).files.load(folder);
    assert.deepEqual(Object.keys(back).sort(), Object.keys(trained).sort());
  } finally {
    await rm(folder, { recursive: true });
  }
  assert.ok(result(step.trainable).quantized !== undefined);
});

test("merging into quantised weights is refused", async () => {
  const model = tiny();
  const adapter = initLora(model, { rank: 2 });
  const quantized = quantizeModel(model, { format: "nf4" });
  await assert.rejects(mergeLora(quantized, adapter), /cannot be merged into quantised weights/);
  await assert.rejects(unmergeLora(quantized, adapter), /cannot be merged into quantised weights/);
});
