/** Pipelines against the reference's on tiny random models (test/golden/make_pipeline_goldens.py). */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { trainBpe } from "../../src/data/index.ts";
import { gpt2, initModel, loadModel, t5 } from "../../src/models/index.ts";
import { type PipelineTasks, pipeline } from "../../src/pipelines/index.ts";
import { goldenDir } from "../models/support.ts";

const folder = (task: string): string => join(goldenDir, "pipelines", task);
const { texts, expected } = JSON.parse(await readFile(join(goldenDir, "pipelines", "expected.json"), "utf8")) as {
  texts: [string, string, string, string];
  expected: Record<string, unknown>;
};
const open = <Task extends keyof PipelineTasks>(task: Task) => pipeline(task, folder(task));

/** Equal but for numbers, which agree to 1e-5. */
function assertClose(actual: unknown, wanted: unknown, path = "result"): void {
  if (typeof wanted === "number") {
    assert.ok(
      Math.abs((actual as number) - wanted) <= 1e-5 * Math.max(1, Math.abs(wanted)),
      `${path}: ${actual}, expected ${wanted}`,
    );
  } else if (typeof wanted === "object" && wanted !== null) {
    assert.equal(Object.keys(actual as object).length, Object.keys(wanted).length, path);
    for (const [key, value] of Object.entries(wanted)) {
      assertClose((actual as Record<string, unknown>)[key], value, `${path}.${key}`);
    }
  } else {
    assert.equal(actual, wanted, path);
  }
}

test("fill-mask", async () => {
  const fill = await open("fill-mask");
  const [filled] = await fill("The quick [MASK] fox jumps.", { topK: 3 });
  const renamed = filled?.map(({ tokenStr, ...rest }) => ({ ...rest, token_str: tokenStr }));
  assertClose(renamed, expected["fill-mask"]);
  assert.equal((await fill("The [MASK] brown [MASK].")).length, 2);
  await assert.rejects(fill("The quick fox."), /the text has no mask.*Fix: write \[MASK\] where/);
});

test("text-classification, of a text and of a pair", async () => {
  const classify = await open("text-classification");
  assertClose(await classify(texts[2], { topK: 3 }), expected["text-classification"]);
  assertClose(await classify({ text: texts[2], pair: texts[3] }), expected["text-classification pair"]);
  const same = await pipeline("sentiment-analysis", await loadModel(folder("text-classification")));
  assertClose(await same(texts[2], { topK: 3 }), expected["text-classification"]);
});

test("token-classification, tokens alone and joined", async () => {
  const find = await open("token-classification");
  assertClose(await find(texts[1], { ignoreLabels: [] }), expected["token-classification"]);
  const joined = await find(texts[1], { aggregation: "simple" });
  const wanted = expected["token-classification simple"] as {
    entity_group: string;
    score: number;
    start: number;
    end: number;
  }[];
  assertClose(
    joined.map(({ entity, score, start, end }) => ({ entity, score, start, end })),
    wanted.map(({ entity_group: entity, score, start, end }) => ({ entity, score, start, end })),
  );
  for (const { word, start, end } of joined) assert.equal(word, texts[1].slice(start, end));
});

test("question-answering, in one window and in several", async () => {
  const ask = await open("question-answering");
  const question = "Who wrote the first program?";
  assertClose(await ask(question, `${texts[1]} ${texts[0]}`, { topK: 3 }), expected["question-answering"]);
  const long = Array.from({ length: 6 }, () => texts.join(" ")).join(" ");
  const [best] = await ask(question, long);
  assert.equal(best?.answer, long.slice(best?.start, best?.end));
  await assert.rejects(ask(question, " "), /the context is empty/);
});

test("zero-shot-classification", async () => {
  const choose = await open("zero-shot-classification");
  assertClose(await choose(texts[0], ["science", "sport", "music"]), expected["zero-shot-classification"]);
  const options = { multiLabel: true, hypothesisTemplate: "It is {}." };
  assertClose(await choose(texts[0], ["science", "sport"], options), expected["zero-shot-classification multi"]);
  await assert.rejects(
    pipeline("zero-shot-classification", folder("text-classification")),
    /bad, fair, good apart, and none of these is entailment/,
  );
});

test("feature-extraction, also under another head", async () => {
  const features = await open("feature-extraction");
  const all = await features(texts[3]);
  const wanted = expected["feature-extraction"] as number[][];
  assert.deepEqual(all.shape, [wanted.length, wanted[0]?.length]);
  assertClose([...all.data], wanted.flat());
  const unit = await features(texts[3], { pooling: "mean", normalize: true });
  const mean = (wanted[0] as number[]).map(
    (_, d) => wanted.reduce((sum, row) => sum + (row[d] as number), 0) / wanted.length,
  );
  assertClose(
    [...unit.data],
    mean.map((x) => x / Math.hypot(...mean)),
  );
  const under = await pipeline("feature-extraction", folder("text-classification"));
  assert.deepEqual((await under(texts[3], { pooling: "cls" })).shape, [16]);
});

test("text-generation and text2text-generation", async () => {
  const tokenizer = await trainBpe(["some text, some more text"], { vocabSize: 262 });
  const dials = { vocabSize: 262, contextLength: 32, hiddenSize: 16, numLayers: 1, numHeads: 2 };
  const decoder = { ...initModel(gpt2, gpt2.createConfig(dials), { seed: 1 }), tokenizer };
  const write = await pipeline("text-generation", decoder);
  const options = { maxTokens: 4, temperature: 0 };
  const [full] = await write("some", options);
  const [rest] = await write("some", { ...options, returnFullText: false });
  assert.equal(full?.generatedText, `some${rest?.generatedText}`);
  const reader = { ...initModel(t5, t5.createConfig(dials), { seed: 1 }), tokenizer };
  const answer = await pipeline("text2text-generation", reader);
  const translate = await pipeline("translation", reader);
  assert.deepEqual(await answer("say: some", options), await translate("some", { ...options, prefix: "say: " }));
  await assert.rejects(pipeline("summarization", decoder), /gpt2 does not read a text and write another/);
  await assert.rejects(pipeline("text-generation", reader), /t5 is an encoder-decoder/);
});

test("what does not fit is refused by name", async () => {
  const unknown = "text-clasification" as "text-classification";
  await assert.rejects(
    pipeline(unknown, folder("fill-mask")),
    /"text-clasification" is not known \(did you mean "text-classification"\?\)/,
  );
  await assert.rejects(
    pipeline("ner", folder("fill-mask")),
    /pipeline ner: the model has the head lm, not token-classification/,
  );
  const bare = { ...(await loadModel(folder("fill-mask"))), tokenizer: undefined };
  await assert.rejects(pipeline("fill-mask", bare as never), /pipeline fill-mask: the model has no tokenizer/);
});
