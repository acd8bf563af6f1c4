import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { trainUnigram } from "../../src/data/index.ts";
import { NdArray } from "../../src/engine/index.ts";
import { evaluate, type TextTask } from "../../src/evaluate/index.ts";
import { initModel, loadModel, type Model, t5 } from "../../src/models/index.ts";
import { goldenDir } from "../models/support.ts";

const task = (...texts: string[]): TextTask => ({
  name: "perplexity",
  kind: "text",
  items: texts.map((text, i) => ({ id: `${i}`, text })),
});

/** A BERT that says one word whatever it reads. */
async function parrot(word: string): Promise<Model> {
  const model = await loadModel(join(goldenDir, "pipelines", "fill-mask"));
  const bias = new Float32Array(model.config.vocabSize);
  bias[model.tokenizer?.tokenToId(word) as number] = 1e4;
  return {
    ...model,
    params: new Map([...model.params, ["cls.predictions.bias", NdArray.float32([bias.length], bias)]]),
  };
}

test("an encoder: accuracy of masked tokens, text by text, and what the commonest would get", async () => {
  const model = await parrot("the");
  const [texts, other] = ["the ".repeat(40), "fox river ".repeat(20)];
  const [accuracy, loss] = await evaluate(model, [task(texts, other)], {});
  assert.deepEqual([accuracy?.metric, loss?.metric], ["accuracy", "loss"]);
  const [right, wrong] = accuracy?.items ?? [];
  assert.deepEqual([right?.amount, wrong?.amount], [right?.weight, 0]);
  assert.equal(right?.weight, 6, "15 % of 40 words");
  assert.match(accuracy?.notes.join() ?? "", /always the commonest token: 0.400 of 15 hidden tokens/);
  assert.ok((loss?.items[0]?.amount as number) < 1e-3 && (loss?.items[1]?.amount as number) > 100);
  const [alone] = await evaluate(model, [task(texts)], {});
  assert.deepEqual(alone?.items[0], right, "whatever else is in the task");
});

test("an encoder-decoder: accuracy of the words in spans, without sentinels and ends", async () => {
  const text = "one two three four five six seven eight nine ten ".repeat(4);
  const specialTokens = ["<pad>", "</s>", "<unk>", ...Array.from({ length: 20 }, (_, i) => `<extra_id_${i}>`)];
  const tokenizer = await trainUnigram([text], { vocabSize: 60, specialTokens });
  const { vocabSize } = tokenizer;
  const config = t5.createConfig({
    vocabSize,
    contextLength: 64,
    hiddenSize: 16,
    numLayers: 1,
    numHeads: 2,
    eosTokenId: 1,
  });
  const model = { ...initModel(t5, config, { seed: 1 }), tokenizer };
  const [accuracy, loss] = await evaluate(model, [task(text)], {});
  const length = (await tokenizer.encode(text)).length;
  const pieces = Array.from({ length: Math.ceil(length / 64) }, (_, i) => Math.min(64, length - 64 * i));
  const hidden = pieces.reduce((sum, n) => sum + Math.round(0.15 * n), 0);
  assert.ok(Math.abs((accuracy?.items[0]?.weight as number) - hidden) <= pieces.length, `${hidden} words`);
  assert.ok((accuracy?.value as number) >= 0 && (accuracy?.value as number) < 0.5);
  assert.ok(Math.abs((loss?.value as number) - Math.log(vocabSize)) < 0.5, `${loss?.value}`);
});
