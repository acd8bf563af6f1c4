import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { createBackend, NdArray } from "../../src/engine/index.ts";
import { loadModel, readSafetensors } from "../../src/models/index.ts";
import { causalLm, causalLmBatch, createOptimizer, float32Parameters, TrainStep } from "../../src/train/index.ts";

/** Both backends; one that this machine cannot run carries the reason. */
const backends = (["reference", "native"] as const).map((name) => {
  try {
    return { name, backend: createBackend(name), skip: false as const };
  } catch (error) {
    return { name, backend: undefined, skip: (error as Error).message };
  }
});

for (const golden of ["gpt2", "llama-gqa"]) {
  for (const { name, backend, skip } of backends) {
    test(`the training step gives the reference's ten losses (${golden}, ${name})`, { skip }, async () => {
      const folder = join(packageRoot(), "test", "golden", golden);
      const model = await loadModel(folder);
      const values = await readSafetensors(join(folder, "golden.safetensors"));
      const all = values.array("tokens");
      const mask = values.array("target_mask");
      const [B, T] = mask.shape as [number, number];
      const column = (offset: number, value: (id: number, i: number) => number): NdArray =>
        NdArray.int32(
          [B, T],
          Int32Array.from({ length: B * T }, (_, i) =>
            value(all.data[Math.floor(i / T) * (T + 1) + (i % T) + offset] as number, i),
          ),
        );
      const targets = column(1, (id, i) => (mask.data[i] === 0 ? -100 : id));
      const tokenCount = targets.data.filter((id) => id !== -100).length;
      const batch = causalLmBatch({ tokens: column(0, (id) => id), targets, tokenCount, byteCount: tokenCount });

      const specs = model.family.parameters(model.config);
      const step = new TrainStep(
        float32Parameters(model),
        {},
        {
          loss: causalLm(model.family, model.config),
          optimizer: createOptimizer("adamw", { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 }),
          clipNorm: 1,
          decay: (name) => specs[name]?.decay ?? false,
          accumulate: 1,
          seed: 0,
          backend,
        },
      );
      step.initialiseSlots();
      const expected = [...values.array("adamw_losses").data];
      for (const [i, loss] of expected.entries()) {
        const result = await step.run(i + 1, 3e-3, [batch]);
        assert.ok(Math.abs(result.loss - loss) <= 1e-4, `step ${i + 1}: ${result.loss}, expected ${loss}`);
        assert.equal(result.tokenCount, tokenCount);
      }
    });
  }
}
