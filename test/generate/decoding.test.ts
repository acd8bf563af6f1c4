import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createBackend, jit, NdArray, type Tensor, unflatten } from "../../src/engine/index.ts";
import { Decoder, decoderFor } from "../../src/generate/decoder.ts";
import {
  type GenerateOptions,
  generateAll,
  generateText,
  ignoreTarget,
  scoreSequences,
} from "../../src/generate/index.ts";
import type { Model } from "../../src/models/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { reference, stories, storiesModel, tinyModel } from "./support.ts";

const golden = "weights/stories260K/golden.json";

test("the real model continues as the reference program does", { skip: skipWithout(stories, golden) }, async () => {
  const model = await storiesModel();
  const { greedy_ids_with_bos: ids } = JSON.parse(readFileSync(asset(golden), "utf8")) as {
    greedy_ids_with_bos: number[];
  };
  const result = await generateText(model, "Once upon a time", { temperature: 0, maxTokens: 100 });
  assert.deepEqual([...result.promptTokens, ...result.tokens], ids.slice(0, 105));
  assert.equal(result.finishReason, "length");
  assert.ok(result.text.startsWith(", there was a little girl named Lily."), result.text);
  assert.ok(result.tokensPerSecond > 0);
});

/** Whether every generated token is the likeliest one after those before it, in one pass over the whole text. */
async function isGreedyInOnePass(
  model: Model,
  prompt: readonly number[],
  tokens: readonly number[],
  options: GenerateOptions,
) {
  const all = Int32Array.from([...prompt, ...tokens]);
  const targets = all.slice(1).fill(ignoreTarget, 0, prompt.length - 1);
  const [score] = await scoreSequences(model, [{ tokens: all.slice(0, -1), targets }], options);
  const { logprobs = new Float32Array(), isGreedy = new Uint8Array() } = score ?? {};
  return { isGreedy: [...isGreedy.slice(prompt.length - 1)], logprobs: [...logprobs.slice(prompt.length - 1)] };
}

for (const modelType of ["gpt2", "llama"] as const) {
  test(`${modelType}: decoding with a cache gives what one pass over the whole text gives`, async () => {
    const model = tinyModel(modelType);
    for (const prompt of [[5], [1, 2, 3], Array.from({ length: 19 }, (_, i) => (i * 5) % 37)]) {
      const options = { backend: reference, temperature: 0, maxTokens: 18, logprobs: 0, eosIds: [] };
      const { tokens, logprobs } = await generateText(model, prompt, options);
      assert.equal(tokens.length, 18);
      const whole = await isGreedyInOnePass(model, prompt, tokens, options);
      assert.deepEqual(
        whole.isGreedy,
        tokens.map(() => 1),
      );
      for (const [i, logprob] of whole.logprobs.entries()) {
        assert.ok(Math.abs(logprob - (logprobs?.[i] ?? 0)) < 1e-5, `token ${i}: ${logprob} and ${logprobs?.[i]}`);
      }
    }
  });

  test(`${modelType}: a prompt in a batch gives exactly what it gives alone`, async () => {
    const backend = createBackend("native");
    const model = tinyModel(modelType, { contextLength: 600, hiddenSize: 48 });
    const lengths = [1, 3, 17, 40, 90, 3];
    const prompts = lengths.map((length, i) => ({
      prompt: Array.from({ length }, (_, j) => (i * 11 + j * 7) % 37),
      seed: i,
      temperature: i % 2 === 0 ? 0.9 : 0,
      // short and long ones, so that rows leave the batch while others go on
      maxTokens: [30, 5, 12, 3, 24, 7][i] ?? 0,
    }));
    const options = { backend, logprobs: 2, eosIds: [] };
    const together = await generateAll(model, prompts, options);
    for (const [i, prompt] of prompts.entries()) {
      const { tokensPerSecond: _, index: __, ...alone } = await generateText(model, prompt, options);
      const { tokensPerSecond: ___, index, ...inBatch } = together[i] ?? assert.fail();
      assert.equal(index, i);
      assert.deepEqual(inBatch, alone, `prompt ${i}`);
    }
  });

  test(`${modelType}: logits by the cache have the bits of logits in one pass`, async () => {
    const backend = createBackend("native");
    const model = tinyModel(modelType, { contextLength: 200, hiddenSize: 48 });
    const ids = Int32Array.from({ length: 150 }, (_, i) => (i * i * 7 + i) % 37);
    const onePass = jit(
      (params: Readonly<Record<string, Tensor>>, tokens: Tensor) =>
        model.family.forward(unflatten(Object.entries(params)), { tokens }, model.config).logits,
      { backend },
    );
    const whole = await onePass(Object.fromEntries(model.params), NdArray.int32([1, ids.length], ids));
    const expected = (await whole.read()) as Float32Array;
    const decoder = new Decoder(model, { backend });
    let { state, logits } = await decoder.prefill([ids.subarray(0, 21)], 10);
    for (let position = 20; ; position++) {
      assert.deepEqual(logits[0], expected.subarray(position * 37, (position + 1) * 37), `position ${position}`);
      if (position === ids.length - 1) break;
      const next = ids.subarray(position + 1, position + 2);
      ({ state, logits } = await decoder.step(state, next, Int32Array.of(position + 1)));
    }
  });

  test(`${modelType}: long prompts are read in pieces and the cache grows, to the same end`, async () => {
    const model = tinyModel(modelType, { contextLength: 1100 });
    const options = { backend: createBackend("native"), temperature: 0, eosIds: [] };
    for (const [length, maxTokens] of [
      [700, 20],
      [9, 400],
    ] as const) {
      const prompt = Array.from({ length }, (_, i) => (i * 5) % 37);
      const { tokens } = await generateText(model, prompt, { ...options, maxTokens });
      const { isGreedy } = await isGreedyInOnePass(model, prompt, tokens, options);
      assert.deepEqual(
        isGreedy,
        tokens.map(() => 1),
        `${length} and ${maxTokens}`,
      );
    }
  });
}

test("one program reads prompts of a length, one decodes; no token compiles another", async () => {
  const model = tinyModel("llama");
  const decoder = decoderFor(model, { backend: reference });
  await generateText(model, [1, 2, 3], { backend: reference, maxTokens: 20, eosIds: [] });
  assert.equal(decoder.programs, 2);
  await generateText(model, [4, 5, 6, 7, 8], { backend: reference, maxTokens: 16, eosIds: [] });
  assert.equal(decoder.programs, 2);
});
