import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackend } from "../../src/engine/index.ts";
import { encodePairs, encodeTexts } from "../../src/evaluate/encode.ts";
import {
  type ChoiceTask,
  type CompletionTask,
  evaluate,
  type Task,
  type TaskResult,
} from "../../src/evaluate/index.ts";
import { normaliseAnswer } from "../../src/evaluate/metrics/exact-match.ts";
import type { Model } from "../../src/models/index.ts";
import { skipWithout } from "../assets.ts";
import { reference as backend, stories, storiesModel } from "../generate/support.ts";
import { letterModel, logprobsByHand } from "./support.ts";

async function encode(model: Model, text: string): Promise<number[]> {
  return [...((await model.tokenizer?.encode(text)) ?? assert.fail())];
}

function near(actual: number | undefined, expected: number, tolerance = 1e-5): void {
  assert.ok(actual !== undefined && Math.abs(actual - expected) < tolerance, `${actual} and ${expected}`);
}

function metric(results: readonly TaskResult[], name: string): TaskResult {
  return results.find((result) => result.metric === name) ?? assert.fail(`no metric ${name}`);
}

const texts = ["abc abc.", "head, bead", "a"];

test("a text of many more tokens than a call takes arguments", async () => {
  const model = await letterModel();
  const [encoded] = await encodeTexts(model, ["abc ".repeat(100_000)], 0);
  assert.equal(encoded?.tokenCount, 400_000);
  assert.equal(encoded.byteCount, 400_000);
});

test("bits per byte and perplexity are those computed by hand from full logits", async () => {
  const model = await letterModel();
  const eos = model.tokenizer?.eosId ?? assert.fail();
  const task: Task = { name: "t", kind: "text", items: texts.map((text, i) => ({ id: `${i}`, text })) };
  const results = await evaluate(model, [task], { backend });
  const nats: number[] = [];
  for (const text of texts) nats.push(-sum(await logprobsByHand(model, [eos, ...(await encode(model, text))])));
  const bytes = sum(texts.map((text) => text.length));
  const bits = metric(results, "bits-per-byte");
  near(bits.value, sum(nats) / Math.LN2 / bytes);
  near(metric(results, "perplexity").value, Math.exp(sum(nats) / bytes), 1e-3); // one token per character
  assert.equal(bits.count, 3);
  for (const [i, item] of bits.items.entries()) near(item.amount, (nats[i] as number) / Math.LN2);
  assert.ok((bits.standardError ?? 0) > 0);
});

test("a text longer than the context is scored in windows that overlap", async () => {
  const model = await letterModel();
  const eos = model.tokenizer?.eosId ?? assert.fail();
  const text = "abcdefgh head bead cafe deaf bag cab face.";
  const ids = [eos, ...(await encode(model, text))];
  const task: Task = { name: "t", kind: "text", items: [{ id: "1", text }] };
  const overlap = 10;
  const bits = metric(await evaluate(model, [task], { backend, overlap }), "bits-per-byte");
  // windows of 24 tokens in: targets 1..24, then 14 new ones per window
  let expected = -sum(await logprobsByHand(model, ids.slice(0, 25)));
  for (let scored = 24; scored < ids.length - 1; scored += 14) {
    const from = scored - overlap;
    const logprobs = await logprobsByHand(model, ids.slice(from, Math.min(ids.length, from + 25)));
    expected -= sum(logprobs.slice(overlap));
  }
  near(bits.value, expected / Math.LN2 / text.length);
  assert.equal(bits.standardError, undefined, "one document has no standard error");
});

test("completions are scored given their prompts, and clusters set the standard error", async () => {
  const model = await letterModel();
  const pairs = [
    ["abc:", "def."],
    ["head:", "bead"],
    ["cab:", "a\n"],
    ["bag: ", "face"],
  ] as const;
  const items = pairs.map(([prompt, completion], i) => ({ id: `${i}`, prompt, completion, cluster: `${i % 2}` }));
  const task: CompletionTask = { name: "t", kind: "completion", items };
  const bits = metric(await evaluate(model, [task], { backend }), "bits-per-byte");
  let total = 0;
  let bytes = 0;
  for (const [prompt, completion] of pairs) {
    const whole = await encode(model, prompt.endsWith(" ") ? prompt + completion : `${prompt} ${completion}`);
    const from = (await encode(model, prompt.trimEnd())).length;
    total -= sum((await logprobsByHand(model, whole)).slice(from - 1));
    bytes += completion.length + (prompt.endsWith(" ") ? 0 : 1);
  }
  near(bits.value, total / Math.LN2 / bytes);
  const unclustered = items.map(({ cluster: _, ...item }) => item);
  const plain = metric(await evaluate(model, [{ ...task, items: unclustered }], { backend }), "bits-per-byte");
  assert.equal(plain.value, bits.value);
  assert.notEqual(plain.standardError, bits.standardError);
});

test("the choice of the highest log-likelihood is picked, plain and per byte", async () => {
  const model = await letterModel();
  const prompts = ["abc:", "head:", "cab", "bag fed", "dad."];
  const choices = ["a", "bead, cafe", "hhh", "efg"];
  const likelihood = async (prompt: string, choice: string): Promise<number> => {
    const whole = await encode(model, `${prompt} ${choice}`);
    return sum((await logprobsByHand(model, whole)).slice((await encode(model, prompt)).length - 1));
  };
  const plain: number[] = [];
  const norm: number[] = [];
  for (const prompt of prompts) {
    const values = await Promise.all(choices.map((choice) => likelihood(prompt, choice)));
    plain.push(values.indexOf(Math.max(...values)));
    const perByte = values.map((value, i) => value / (choices[i] as string).length);
    norm.push(perByte.indexOf(Math.max(...perByte)));
  }
  assert.notDeepEqual(plain, norm, "the two ways differ on these items, so both are tested");
  const task = (answers: readonly number[]): ChoiceTask => ({
    name: "t",
    kind: "choice",
    items: prompts.map((prompt, i) => ({ id: `${i}`, prompt, choices, answer: answers[i] as number })),
  });
  const byPlain = await evaluate(model, [task(plain)], { backend });
  assert.equal(metric(byPlain, "accuracy").value, 1);
  assert.equal(metric(byPlain, "accuracy").standardError, 0);
  const agreement = plain.filter((choice, i) => choice === norm[i]).length / plain.length;
  assert.equal(metric(byPlain, "accuracy-norm").value, agreement);
  assert.equal(metric(await evaluate(model, [task(norm)], { backend }), "accuracy-norm").value, 1);
});

test("generated answers are compared after normalising", { skip: skipWithout(stories) }, async () => {
  const model = await storiesModel();
  const items = [
    { id: "right", prompt: "Once upon a time", answers: ["no", ", there was a little girl named LILY"] },
    { id: "wrong", prompt: "Once upon a time", answers: [", there was a little boy"] },
  ];
  const task: Task = { name: "t", kind: "answer", items, stop: ["."], maxTokens: 30, ignoreCase: true };
  const result = metric(await evaluate(model, [task], { backend }), "exact-match");
  assert.deepEqual(
    result.items.map(({ amount }) => amount),
    [1, 0],
  );
  near(result.standardError, 0.5, 1e-12);
  const strict = await evaluate(model, [{ ...task, ignoreCase: false }], { backend });
  assert.equal(metric(strict, "exact-match").value, 0);
});

test("answers are normalised as asked", () => {
  assert.equal(normaliseAnswer("  The  answer\nis 42. ", {}), "The answer is 42.");
  assert.equal(normaliseAnswer("It's $1,000!", { ignorePunctuation: true, ignoreCase: true }), "its 1000");
  assert.equal(normaliseAnswer("6 + 7 = 13\n#### 13", { extract: "#### (\\S+)" }), "13");
  assert.equal(normaliseAnswer("first 7 then 8", { extract: "\\d+" }), "8");
  assert.equal(normaliseAnswer("none", { extract: "\\d+" }), "none");
});

test("batch size and order change no bit of any result", async () => {
  const native = createBackend("native");
  const model = await letterModel({ hiddenSize: 48 });
  const words = Array.from({ length: 23 }, (_, i) =>
    "abcdefgh head, bead. cafe deaf bag cab".slice(i % 5, 6 + ((i * 7) % 30)),
  );
  const byId = <T extends { id: string }>(items: readonly T[]): T[] =>
    [...items].sort((a, b) => Number(a.id) - Number(b.id));
  const tasks = (order: readonly number[]): Task[] => [
    { name: "texts", kind: "text", items: order.map((i) => ({ id: `${i}`, text: words[i] as string })) },
    {
      name: "choices",
      kind: "choice",
      items: order.map((i) => ({
        id: `${i}`,
        prompt: (words[i] as string).slice(0, 9),
        choices: ["a", "bead"],
        answer: i % 2,
      })),
    },
    {
      name: "answers",
      kind: "answer",
      maxTokens: 5,
      items: order.map((i) => ({ id: `${i}`, prompt: (words[i] as string).slice(0, 8), answers: ["a"] })),
    },
  ];
  const forward = [...words.keys()];
  const expected = await evaluate(model, tasks(forward), { backend: native, batchSize: 1 });
  assert.equal(expected.length, 5);
  for (const batchSize of [3, 8]) {
    assert.deepEqual(
      await evaluate(model, tasks(forward), { backend: native, batchSize }),
      expected,
      `batch ${batchSize}`,
    );
  }
  const shuffled = await evaluate(model, tasks([...forward].reverse()), { backend: native, batchSize: 3 });
  for (const [i, result] of shuffled.entries()) {
    assert.deepEqual(byId(result.items), byId(expected[i]?.items ?? []), result.metric);
    near(result.value, expected[i]?.value ?? 0, 1e-12); // the sum runs in the order of the items
  }
});

test("prompt and answer are tokenised as one text", { skip: skipWithout(stories) }, async () => {
  const model = await storiesModel();
  const pair = (context: string, continuation: string) =>
    encodePairs(model, [{ context, continuation, where: "item" }]).then((pairs) => pairs[0] ?? assert.fail());
  const whole = [...((await model.tokenizer?.encode("One day, she saw a ball", { addSpecialTokens: true })) ?? [])];
  for (const [context, continuation] of [
    ["One day,", " she saw a ball"],
    ["One day, ", "she saw a ball"],
  ] as const) {
    const { request, count } = await pair(context, continuation);
    assert.deepEqual([...request.tokens], whole.slice(0, -1));
    const before = [...((await model.tokenizer?.encode("One day,", { addSpecialTokens: true })) ?? [])];
    assert.equal(count, whole.length - before.length);
    assert.deepEqual(
      [...request.targets],
      whole.slice(1).map((id, i) => (i < before.length - 1 ? -100 : id)),
    );
  }
  const alone = await pair("", "She saw");
  assert.equal(alone.request.tokens[0], 1, "an empty prompt is the beginning-of-text token");
  assert.ok(alone.request.targets.every((target) => target !== -100));
  const long = await pair("a lot of words ".repeat(300), "she");
  assert.deepEqual([long.isCut, long.request.tokens.length], [true, 512]);
  await assert.rejects(
    pair("x", "a lot of words ".repeat(300)),
    /item: the answer has \d+ tokens, more than the model's context of 512/,
  );
});

test("errors say what does not fit", async () => {
  const model = await letterModel();
  const items = [{ id: "1", text: "abc" }];
  const task: Task = { name: "t", kind: "text", items };
  const fails = (tasks: readonly Task[], options: object, message: RegExp) =>
    assert.rejects(evaluate(model, tasks, { backend, ...options }), { name: "PlinthError", message });
  await fails([{ ...task, items: [] }], {}, /task t: no items/);
  await fails([{ ...task, items: [...items, ...items] }], {}, /two items have the id "1"/);
  await fails([task], { shots: 1 }, /task t: plain texts have no examples/);
  await fails([task], { overlap: 24 }, /overlap is 24.*from 0 to 23/);
  await fails([task], { batchSize: 0 }, /batchSize is 0.*whole number from 1/);
  await fails([{ ...task, items: [{ id: "1", text: "" }] }], {}, /task t: the texts are empty/);
  const { tokenizer: _, ...untokenised } = model;
  await assert.rejects(evaluate(untokenised, [task], { backend }), /no tokenizer.json.*Fix: put tokenizer.json/);
  const stop = new AbortController();
  stop.abort();
  await assert.rejects(evaluate(model, [task], { backend, signal: stop.signal }), { name: "AbortError" });
});

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
