/** Heads learn from labelled texts, through the one loop and every adapter, and come back from files. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import {
  adapt,
  checkLabelled,
  encodeLabelled,
  headOfRecords,
  type LabelledRecord,
  loadAdapter,
  mergeLora,
  type QuestionRecord,
  readPeft,
} from "../../src/adapt/index.ts";
import { linearModules } from "../../src/adapt/lora-modules.ts";
import { packageRoot } from "../../src/base/index.ts";
import {
  contrastiveBatches,
  encodePairs,
  labelledBatches,
  labelledHeldOut,
  type Tokenizer,
  trainBpe,
} from "../../src/data/index.ts";
import { HostRandom, NdArray } from "../../src/engine/index.ts";
import { classifyTexts, embedTexts, encodeTextPairs, generateText, runHead } from "../../src/generate/index.ts";
import {
  bert,
  gpt2,
  type HeadConfig,
  initModel,
  loadModel,
  type Model,
  saveModel,
  withHead,
  writeSafetensors,
} from "../../src/models/index.ts";
import { pipeline } from "../../src/pipelines/index.ts";
import { pretrainingObjective } from "../../src/train/index.ts";

const isSource = import.meta.filename.endsWith(".ts");
const main = join(import.meta.dirname, "..", "..", "src", "cli", `main.${isSource ? "ts" : "js"}`);
const words = ["film", "plot", "cast", "score", "scene", "story"];
const [good, bad] = [
  ["great", "fine", "lovely"],
  ["poor", "awful", "dull"],
];
let folder = "";
let tokenizer: Tokenizer;
let base: Model;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-labelled-"));
  const texts = words.flatMap((word) => [...good, ...bad].map((a) => `the ${word} is ${a} . who is it ? it is not`));
  const specialTokens = ["[SEP]", "[CLS]", "[PAD]", "[MASK]"];
  tokenizer = await trainBpe(texts, { vocabSize: 320, specialTokens });
  const dials = { vocabSize: tokenizer.vocabSize, contextLength: 32, hiddenSize: 64, numLayers: 2, numHeads: 4 };
  base = { ...initModel(bert, bert.createConfig(dials), { seed: 1 }), tokenizer };
});
after(() => rm(folder, { recursive: true, force: true }));

function decoder(): Model {
  const dials = { vocabSize: tokenizer.vocabSize, contextLength: 32, hiddenSize: 64, numLayers: 2, numHeads: 4 };
  return { ...initModel(gpt2, gpt2.createConfig(dials), { seed: 1 }), tokenizer } as unknown as Model;
}

/** Sentences that are good or bad, and everything else that the heads are asked. */
function sentences(count: number, seed: number) {
  const random = new HostRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[random.int(list.length)] as T;
  return Array.from({ length: count }, () => {
    const [word, isGood] = [pick(words), random.int(2) === 1];
    const adjective = pick(isGood ? good : bad);
    return { text: `the ${word} is ${adjective} .`, word, adjective, isGood };
  });
}

const records: Record<string, (s: ReturnType<typeof sentences>) => LabelledRecord[]> = {
  label: (s) => s.map(({ text, isGood }) => ({ text, label: isGood ? "good" : "bad" })),
  labels: (s) =>
    s.map(({ text, isGood, adjective }) => ({
      text,
      label: [isGood ? "good" : "bad", ...(adjective < "f" ? ["early"] : [])],
    })),
  number: (s) => s.map(({ text, isGood }) => ({ text, pair: "it is", label: isGood ? 1 : -1 })),
  words: (s) =>
    s.map(({ text, adjective, word }) => ({
      tokens: text.split(" "),
      labels: text.split(" ").map((w) => (w === word ? "NOUN" : w === adjective ? "ADJ" : "O")),
    })),
  question: (s) =>
    s.map(({ text, adjective }) => ({
      question: "who is it ?",
      context: text,
      answers: [{ text: adjective, start: text.indexOf(adjective) }],
    })),
  similar: (s) => s.map(({ text, word }) => ({ text, positive: `it is the ${word} .` })),
};

async function learn(name: string, method: string, { steps = 60, ...adapter }: { steps?: number; rank?: number } = {}) {
  const [train, heldOut] = [sentences(64, 1), sentences(16, 2)].map(records[name] as (typeof records)[string]) as [
    LabelledRecord[],
    LabelledRecord[],
  ];
  const head = headOfRecords([...train, ...heldOut]);
  const { kind, labels, problem } = head;
  const model = withHead(base, { head: kind, labels, problem, seed: 3 });
  const encode = (list: readonly LabelledRecord[]) => encodeLabelled(list, tokenizer, { head, context: 32 });
  const [own, rest] = [await encode(train), await encode(heldOut)];
  const options = { batchSize: 8, context: 32, pad: own.pad, layout: own.layout };
  const out = join(folder, `${name}-${method}`);
  const losses: number[] = [];
  const result = await adapt(model, {
    method,
    adapter,
    data: kind === "none" ? contrastiveBatches(own.texts, 2, options) : labelledBatches(own.texts, options),
    ...(kind === "none" ? {} : { heldOut: labelledHeldOut(rest.texts, options) }),
    steps,
    schedule: { name: "cosine", lr: method === "full" ? 3e-3 : 1e-2, warmupSteps: 10 },
    optimizer: { name: "adamw", options: { weightDecay: 0 } },
    out,
    onEvent: (event) => {
      if (event.kind === "step") losses.push(event.loss);
    },
  });
  return { result, out, head, losses, rest: heldOut };
}

const argmax = (values: ArrayLike<number>): number => Array.from(values).indexOf(Math.max(...Array.from(values)));

suite("every head learns and comes back from its folder", () => {
  test("one label: full fine-tuning", async () => {
    const { out, rest, head, result } = await learn("label", "full");
    const loaded = await loadModel(out);
    assert.deepEqual(loaded.config.head, head);
    const texts = rest as { text: string; label: string }[];
    for (const model of [result.model, loaded]) {
      const said = await classifyTexts({ ...model, tokenizer }, texts, { batchSize: 5 });
      const right = said.filter((p, i) => head.labels[argmax(p)] === texts[i]?.label).length;
      assert.ok(right >= 15, `${right} of 16`);
      assert.ok(Math.abs((said[0] as Float32Array).reduce((a, b) => a + b) - 1) < 1e-5);
    }
    const one = await classifyTexts(result.model, texts.slice(3, 4));
    assert.deepEqual(one[0], (await classifyTexts(result.model, texts))[3]);
  });

  test("one label: LoRA, whose folder carries the head", async () => {
    const { out, rest, head, result } = await learn("label", "lora", { rank: 4, steps: 100 });
    const config = JSON.parse(await readFile(join(out, "adapter_config.json"), "utf8"));
    assert.deepEqual(config.modules_to_save, ["bert.pooler.dense", "classifier"]);
    assert.equal(config.task_type, "SEQ_CLS");
    const loaded = await loadAdapter(base, out);
    assert.deepEqual(loaded.config.head, head);
    const texts = rest as { text: string; label: string }[];
    const said = await classifyTexts(loaded, texts);
    assert.deepEqual(said, await classifyTexts(result.model, texts));
    const right = said.filter((p, i) => head.labels[argmax(p)] === texts[i]?.label).length;
    assert.ok(right >= 15, `${right} of 16`);
    const headed = withHead(base, { head: head.kind, labels: head.labels });
    const specs = headed.family.parameters(headed.config);
    const merged = await mergeLora(headed, await readPeft(out, linearModules(headed), specs));
    const again = await classifyTexts(merged, texts);
    again.forEach((p, i) => {
      p.forEach((value, j) => {
        assert.ok(Math.abs(value - (said[i]?.[j] as number)) < 1e-5);
      });
    });
  });

  test("one label: the adapter opens in PEFT with the same logits", async (t) => {
    const python = process.env.PLINTH_PYTHON;
    if (python === undefined) return t.skip("set PLINTH_PYTHON to a Python with torch, transformers and peft");
    const out = join(folder, "label-lora");
    const model = await loadAdapter(base, out);
    const plain = join(folder, "plain");
    await saveModel(base, plain);
    const ids = Array.from({ length: 2 * 7 }, (_, i) => (7 * i + 5) % tokenizer.vocabSize);
    const rows = [0, 1].map((b) => ({ ids: Int32Array.from(ids.slice(7 * b, 7 * b + 7)), types: new Uint8Array(7) }));
    const said = await runHead(model, rows);
    const values = join(folder, "values.safetensors");
    await writeSafetensors(values, [
      ["tokens", NdArray.int32([2, 7], ids)],
      [
        "logits",
        NdArray.float32(
          [2, 2],
          said.flatMap(({ values }) => [...values]),
        ),
      ],
    ]);
    const script = join(packageRoot(), "test", "golden-adapt", "check_peft.py");
    const { stdout, stderr } = spawnSync(python, [script, plain, out, values], { encoding: "utf8" });
    const result = JSON.parse(stdout.trim().split("\n").at(-1) ?? stderr);
    assert.deepEqual([result.unknown, result.missing], [[], []]);
    assert.ok(result.with <= 1e-5 && result.without > 1e-2, stdout);
  });

  test("one label: QLoRA", async () => {
    const { losses } = await learn("label", "qlora", { rank: 4 });
    assert.ok((losses.at(-1) as number) < 0.3 * (losses[0] as number), `${losses.at(-1)}`);
  });

  test("several labels, and numbers", async () => {
    const several = await learn("labels", "full", { steps: 100 });
    const texts = several.rest as { text: string; label: string[] }[];
    const said = await classifyTexts(several.result.model, texts);
    const wrong = said.flatMap((p, i) => {
      const expected = several.head.labels.map((label) => texts[i]?.label.includes(label));
      return [...p].filter((value, j) => value > 0.5 !== expected[j]);
    });
    assert.ok(wrong.length <= 4, `${wrong.length} of ${said.length * several.head.labels.length}`);

    const number = await learn("number", "full");
    const values = await classifyTexts(number.result.model, number.rest as { text: string; pair: string }[]);
    const signs = values.filter(([v], i) => Math.sign(v as number) === (number.rest[i] as { label: number }).label);
    assert.ok(signs.length >= 15, `${signs.length}`);
  });

  test("words", async () => {
    const { result, rest, head } = await learn("words", "full");
    const { texts } = await encodeLabelled(rest, tokenizer, { head: head as HeadConfig, context: 32 });
    const types = texts.map(({ ids }) => ({ ids: Int32Array.from(ids), types: new Uint8Array(ids.length) }));
    const said = await runHead(result.model, types);
    let [right, all] = [0, 0];
    for (const [i, { target }] of texts.entries()) {
      const { shape, values } = said[i] as { shape: number[]; values: Float32Array };
      assert.deepEqual(shape, [target.length, 3]);
      for (let t = 0; t < target.length; t++) {
        if (target[t] === -100) continue;
        all++;
        if (argmax(values.slice(3 * t, 3 * t + 3)) === target[t]) right++;
      }
    }
    assert.equal(all, 16 * 5);
    assert.ok(right >= 0.95 * all, `${right} of ${all}`);
  });

  test("questions", async () => {
    const { result, rest, head } = await learn("question", "full");
    const { texts } = await encodeLabelled(rest, tokenizer, { head, context: 32 });
    const rows = texts.map(({ ids, types = [] }) => ({ ids: Int32Array.from(ids), types: Uint8Array.from(types) }));
    const said = await runHead(result.model, rows);
    const right = texts.filter(({ target }, i) => {
      const { values } = said[i] as { values: Float32Array };
      const side = (at: number): number => argmax(values.filter((_, j) => j % 2 === at));
      return side(0) === target[0] && side(1) === target[1];
    });
    assert.ok(right.length >= 14, `${right.length} of 16`);
    const { ids, target } = texts[0] as { ids: Int32Array; target: number[] };
    const answer = await tokenizer.decode(ids.slice(target[0], (target[1] as number) + 1));
    assert.equal(answer.trim(), (rest[0] as QuestionRecord).answers[0]?.text);
  });

  test("similar texts", async () => {
    const { result, losses } = await learn("similar", "full");
    assert.ok((losses.at(-1) as number) < 0.6 * (losses[0] as number), `${losses[0]} -> ${losses.at(-1)}`);
    const [a, b, c] = await embedTexts(result.model, ["the film is dull .", "it is the film .", "it is the cast ."]);
    const cosine = (x: Float32Array, y: Float32Array): number => x.reduce((sum, v, i) => sum + v * (y[i] as number), 0);
    assert.ok(cosine(a as Float32Array, b as Float32Array) > cosine(a as Float32Array, c as Float32Array));
  });
});

test("pairs: tokens around them, types, and which end is cut", async () => {
  const [plain, pair] = await encodePairs(tokenizer, [{ text: "the film" }, { text: "the film", pair: "is dull" }], {
    context: 32,
  });
  const [sep, cls] = [tokenizer.tokenToId("[SEP]"), tokenizer.tokenToId("[CLS]")];
  assert.deepEqual([plain?.ids[0], plain?.ids.at(-1), plain?.isCut], [cls, sep, false]);
  const firstSep = pair?.ids.indexOf(sep as number) as number;
  assert.deepEqual([...(pair?.types ?? [])], pair?.ids ? Array.from(pair.ids, (_, i) => Number(i > firstSep)) : []);
  const [cut] = await encodePairs(tokenizer, [{ text: "the film ".repeat(9), pair: "is" }], { context: 12 });
  assert.equal(cut?.ids.length, 12);
  assert.ok(cut?.isCut);
  assert.equal(cut?.types.indexOf(1), 12 - 1 - (await tokenizer.encode("is")).length);
});

test("a decoder's texts end with their own last token, and what is behind it changes nothing", async () => {
  const [open, pair, empty] = await encodePairs(
    tokenizer,
    [{ text: "the film" }, { text: "the", pair: "film" }, { text: "" }],
    {
      context: 32,
      closed: false,
    },
  );
  const sep = tokenizer.tokenToId("[SEP]") as number;
  const own = [...(await tokenizer.encode("the film"))];
  assert.deepEqual([...(open?.ids ?? [])].slice(1), own);
  assert.equal(pair?.ids.filter((id) => id === sep).length, 1);
  assert.notEqual(pair?.ids.at(-1), sep);
  assert.equal(empty?.ids.length, 2);

  const model = withHead(decoder(), { head: "sequence-classification", labels: ["a", "b", "c"] });
  const texts = ["the film", "the plot of the story is dull", "it"].map((text) => ({ text }));
  const together = await classifyTexts(model, texts);
  for (const [i, text] of texts.entries()) {
    assert.deepEqual((await classifyTexts(model, [text], { batchSize: 1 }))[0], together[i]);
    const [row] = await encodeTextPairs(model, [text]);
    const said = await pipeline("text-classification", model);
    const [best] = await said(text.text);
    assert.ok(Math.abs((best?.score as number) - Math.max(...(together[i] as Float32Array))) < 1e-6);
    assert.ok((row?.ids.length ?? 0) > 1);
  }
});

test("a decoder with another head predicts no tokens, and says so", async () => {
  const model = withHead(decoder(), { head: "sequence-classification", labels: ["a", "b"] });
  const message = /this gpt2 has the head "sequence-classification", which predicts no tokens/;
  await assert.rejects(generateText(model, "the film", { maxTokens: 1 }), message);
  await assert.rejects(pipeline("text-generation", model), message);
  assert.throws(() => pretrainingObjective("clm", model.family).prepare(model, {}), message);
});

test("what does not fit is refused by name", () => {
  assert.throws(() => checkLabelled({ tokens: ["a"], labels: [] }, "x.jsonl:3"), {
    message: 'x.jsonl:3: expected "tokens" and as many "labels". Fix: correct the record.',
  });
  assert.equal(checkLabelled({ prompt: "a", completion: "b" }, "x"), undefined);
  assert.throws(
    () =>
      headOfRecords([
        { text: "a", label: "b" },
        { text: "a", label: 1 },
      ]),
    /several kinds/,
  );
});

for (const kind of ["encoder", "decoder"] as const)
  test(`plinth adapt learns a task, plinth eval measures it: ${kind}`, async () => {
    const model = join(folder, kind);
    await saveModel(kind === "encoder" ? base : decoder(), model);
    await tokenizer.save(model);
    const lines = [...sentences(64, 1), ...sentences(32, 7)].map(({ text, isGood }, i) =>
      JSON.stringify({ text, label: isGood ? "good" : "bad", split: i < 64 ? "train" : "test" }),
    );
    const task = join(folder, "reviews.jsonl");
    await writeFile(task, lines.join("\n"));
    const plinth = (...args: string[]) => spawnSync(process.execPath, [main, ...args], { encoding: "utf8" });
    for (const method of ["full", "lora"]) {
      const out = join(folder, `cli-${kind}-${method}`);
      const dials = ["--steps", "60", "--lr", method === "full" ? "3e-3" : "1e-2", "--out", out];
      const trained = plinth("adapt", model, "--method", method, "--task", task, ...dials);
      assert.equal(trained.status, 0, trained.stderr);
      assert.match(trained.stderr, /new weights of the sequence-classification head: .*(classifier|score)\.weight/);
      assert.match(trained.stderr, /61 records to learn from, 3 held out/);
      const where = method === "full" ? [out] : [model, "--adapter", out];
      const measured = plinth("eval", ...where, "--tasks", task, "--json");
      assert.equal(measured.status, 0, measured.stderr);
      const [accuracy] = JSON.parse(measured.stdout).tasks;
      assert.deepEqual([accuracy.metric, accuracy.count], ["accuracy", 32]);
      assert.ok(accuracy.value > 0.9, measured.stdout);
    }
    assert.equal((await encodeTextPairs(base, [{ text: "the film" }])).length, 1);
  });
