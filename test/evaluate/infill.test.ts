import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { requiredInfillingTokens, trainCharTokenizer } from "../../src/data/index.ts";
import { evaluate, type InfillTask, loadTasks } from "../../src/evaluate/index.ts";
import { infill, infillingPrompt } from "../../src/generate/index.ts";
import type { Model } from "../../src/models/index.ts";
import { reference as backend, tinyModel } from "../generate/support.ts";
import { letterModel, logprobsByHand } from "./support.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-infill-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const specialTokens = ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"];

async function infiller(): Promise<Model> {
  const tokenizer = await trainCharTokenizer(["abcdefgh \n.,:<>_fimprefix"], { specialTokens });
  return { ...tinyModel("llama", { vocabSize: tokenizer.vocabSize, contextLength: 24 }), tokenizer };
}

test("the prompt: prefix, suffix, middle; far ends are left out where the context is short", async () => {
  const model = await infiller();
  const { tokenizer } = model;
  assert.ok(tokenizer !== undefined);
  const { prefix, suffix, middle } = requiredInfillingTokens(tokenizer);
  const bos = tokenizer.bosId === undefined ? [] : [tokenizer.bosId];
  const ids = async (text: string) => [...(await tokenizer.encode(text, { literal: true }))];
  assert.deepEqual(
    [...(await infillingPrompt(model, { prefix: "ab", suffix: "cd" }, { maxTokens: 4 }))],
    [...bos, prefix, ...(await ids("ab")), suffix, ...(await ids("cd")), middle],
  );
  assert.deepEqual(
    [...(await infillingPrompt(model, { prefix: "ab", suffix: "cd" }, { maxTokens: 4, order: "spm" }))],
    [...bos, prefix, suffix, ...(await ids("cd")), middle, ...(await ids("ab"))],
  );
  const room = 24 - 4 - 3 - bos.length;
  const cut = await infillingPrompt(
    model,
    { prefix: "abcdefgh".repeat(5), suffix: "hgfedcba".repeat(5) },
    { maxTokens: 4 },
  );
  const half = Math.floor(room / 2);
  assert.deepEqual(
    [...cut],
    [
      ...bos,
      prefix,
      ...(await ids("abcdefgh".repeat(5).slice(-half))),
      suffix,
      ...(await ids("hgfedcba".repeat(5).slice(0, room - half))),
      middle,
    ],
  );
  const lopsided = await infillingPrompt(model, { prefix: "abcdefgh".repeat(5), suffix: "h" }, { maxTokens: 4 });
  assert.equal(lopsided.length, 20);
  assert.deepEqual([...lopsided].slice(-3), [suffix, ...(await ids("h")), middle]);
  // a text cannot forge a token
  const forged = await infillingPrompt(model, { prefix: "<fim_prefix>", suffix: "" }, { maxTokens: 4 });
  assert.equal(forged.filter((id) => id === prefix).length, 1);
  const result = await infill(model, { prefix: "a", suffix: "b" }, { backend, temperature: 0, maxTokens: 3 });
  assert.ok(result.tokens.length <= 3);
});

test("exact match counts what the model itself writes into a gap", async () => {
  const model = await infiller();
  const gaps = [
    { prefix: "abc\n", suffix: "\ndef" },
    { prefix: "bead ", suffix: "." },
    { prefix: "a", suffix: "\nb" },
  ];
  const written = await Promise.all(
    gaps.map((gap) => infill(model, gap, { backend, temperature: 0, maxTokens: 12, stop: ["\n"] })),
  );
  const items = gaps.map((gap, i) => ({ id: `${i}`, ...gap, middle: i === 0 ? "gggggggg" : (written[i]?.text ?? "") }));
  const task: InfillTask = { name: "gaps", kind: "infill", items };
  const results = await evaluate(model, [task], { backend, batchSize: 2 });
  assert.deepEqual(
    results.map(({ metric, count }) => [metric, count]),
    ["", "-spm", "-left"].flatMap((way) => [`exact-match${way}`, `bits-per-byte${way}`]).map((metric) => [metric, 3]),
  );
  const [both, bits, , spmBits] = results;
  const first = items[0] as (typeof items)[number];
  for (const [order, measured] of [
    ["psm", bits],
    ["spm", spmBits],
  ] as const) {
    const prompt = [...(await infillingPrompt(model, first, { maxTokens: 12, order }))];
    const ids = [...prompt, ...((await model.tokenizer?.encode(first.middle, { literal: true })) ?? [])];
    const logprobs = (await logprobsByHand(model, ids)).slice(prompt.length - 1);
    const expected = -logprobs.reduce((total, logprob) => total + logprob, 0) / Math.LN2;
    assert.ok(Math.abs((measured?.items[0]?.amount ?? 0) - expected) < 1e-4, order);
    assert.equal(measured?.items[0]?.weight, 8);
  }
  for (const [i, { amount }] of (both?.items ?? []).entries()) {
    const said = written[i]?.text.trim() ?? "";
    // an answer cut short by the limit of tokens there may go on here
    if (i === 0 || said.length < 12) assert.equal(amount, said === items[i]?.middle.trim() ? 1 : 0, `${i}: ${said}`);
  }
  // the answer of a task with `extract` is a part of what is written
  const start = written[1]?.text.trim()[0] as string;
  const extract = /\S/;
  const parts: InfillTask = { ...task, items: [{ id: "1", prefix: "bead ", suffix: ".", middle: start }], extract };
  assert.equal((await evaluate(model, [parts], { backend }))[0]?.value, 1);
  const letters: InfillTask = { ...task, items: [{ id: "1", prefix: "abc\n", middle: "abba", suffix: "\ndef" }] };
  const plain = await evaluate(await letterModel(), [letters], { backend });
  assert.deepEqual(
    plain.map(({ metric }) => metric),
    ["exact-match-left", "bits-per-byte-left"],
  );
  assert.match(plain[0]?.notes.join() ?? "", /no tokens for filling in/);
  await assert.rejects(infillingPrompt(await letterModel(), { prefix: "a", suffix: "b" }), {
    name: "PlinthError",
    message: /no <fim_prefix>, <fim_middle>, <fim_suffix>/,
  });
});

test("gaps from a file of code, and from lines of one's own", async () => {
  const path = join(folder, "code.ts");
  const code = "import x from 'y';\n\n}\nconst value = compute(x);\nexport function f() {\n  return value;\n}\n";
  await writeFile(path, code);
  const [task] = await loadTasks(`infill-lines=${path}`);
  assert.ok(task?.kind === "infill");
  assert.deepEqual(task.items.map(({ middle }) => middle).sort(), [
    "  return value;",
    "const value = compute(x);",
    "export function f() {",
    "import x from 'y';",
  ]);
  for (const { prefix, middle, suffix } of task.items) assert.equal(prefix + middle + suffix, code);
  const [words] = await loadTasks(`infill-words=${path}`);
  assert.ok(words?.kind === "infill");
  const isWord = /^ ?(import|from|const|value|compute|export|function|return)$/;
  assert.equal(words.items.length, 9);
  assert.ok(words.items.some(({ id, middle }) => id === "code.ts:6:9" && middle === " value"));
  for (const { prefix, middle, suffix } of words.items) {
    assert.match(middle, isWord);
    assert.equal(prefix + middle + suffix, code);
  }
  assert.equal(words.extract?.exec(" value;\n")?.[0].trim(), "value");
  const own = join(folder, "own.jsonl");
  await writeFile(own, '{"prefix": "a", "middle": "b", "suffix": "c"}\n');
  assert.deepEqual((await loadTasks(own))[0]?.items, [
    { id: "1", cluster: undefined, prefix: "a", middle: "b", suffix: "c" },
  ]);
});
