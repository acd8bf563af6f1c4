import assert from "node:assert/strict";
import { test } from "node:test";
import { jit, NdArray, type Tensor, unflatten } from "../../src/engine/index.ts";
import {
  countParameters,
  gpt2,
  gptNeoX,
  initModel,
  llama,
  type Model,
  type ModelFamily,
  quantizeModel,
  saveModel,
} from "../../src/models/index.ts";

const dials = { vocabSize: 96, contextLength: 32, hiddenSize: 64, numLayers: 2, numHeads: 4 };

function tiny(family: ModelFamily, tieWordEmbeddings: boolean): Model {
  const model = initModel(family, family.createConfig({ ...dials, tieWordEmbeddings }), { seed: 3 });
  // Larger than a new model's, so that the layers matter.
  const params = new Map(
    [...model.params].map(([name, array]) =>
      array.shape.length === 2
        ? [
            name,
            NdArray.float32(
              array.shape,
              (array.data as Float32Array).map((x) => 3 * x),
            ),
          ]
        : [name, array],
    ),
  );
  return { ...model, params };
}

async function logits(model: Model, tokens: readonly number[]): Promise<Float32Array> {
  const run = jit((params: Readonly<Record<string, Tensor>>, ids: Tensor) => {
    return model.family.forward(unflatten(Object.entries(params)), { tokens: ids }, model.config).logits;
  });
  const out = await run(Object.fromEntries(model.params), NdArray.int32([1, tokens.length], [...tokens]));
  return (await out.read()) as Float32Array;
}

function relativeError(actual: Float32Array, expected: Float32Array): number {
  let [difference, power] = [0, 0];
  expected.forEach((x, i) => {
    difference += (x - (actual[i] as number)) ** 2;
    power += x * x;
  });
  return Math.sqrt(difference / power);
}

const families = [gpt2, llama, gptNeoX] as unknown as readonly ModelFamily[];
for (const family of families) {
  for (const tied of [true, false]) {
    test(`${family.modelType}${tied ? ", tied" : ""}: a quantised model says nearly what the model says`, async () => {
      const model = tiny(family, tied);
      const tokens = [1, 5, 9, 33, 70, 2, 2, 95];
      const expected = await logits(model, tokens);
      for (const [format, limit] of [
        ["int8", 0.03],
        ["int4", 0.35],
        ["nf4", 0.3],
      ] as const) {
        for (const head of [false, true]) {
          const quantized = quantizeModel(model, { format, head });
          const error = relativeError(await logits(quantized, tokens), expected);
          assert.ok(error > 1e-4 && error < limit, `${format}${head ? " with head" : ""}: ${error}`);
          assert.equal(
            quantized.quantized?.has(family.modelType === "gpt_neox" ? "embed_out.weight" : "lm_head.weight"),
            head,
          );
        }
      }
      const quantized = quantizeModel(model, { format: "nf4" });
      assert.equal(countParameters(quantized), countParameters(model));
      const bytes = (m: Model): number => [...m.params.values()].reduce((sum, array) => sum + array.byteLength, 0);
      assert.ok(bytes(quantized) < bytes(model) / 2);
    });
  }
}

test("a quantised model is neither quantised again nor saved", async () => {
  const quantized = quantizeModel(tiny(llama as unknown as ModelFamily, false), { format: "int4", groupSize: 32 });
  assert.throws(() => quantizeModel(quantized, { format: "int4" }), /quantised already/);
  await assert.rejects(saveModel(quantized, "unused"), /quantised model has no file format/);
});
