import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { buildDataset } from "../../src/data/index.ts";
import { prepareTask } from "../../src/evaluate/few-shot.ts";
import { type ChoiceTask, loadJsonlTask, loadTasks } from "../../src/evaluate/index.ts";
import { asset, skipWithout } from "../assets.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-tasks-"));
});
after(() => rm(folder, { recursive: true, force: true }));

async function file(name: string, ...lines: string[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, lines.join("\n"));
  return path;
}

test("the fields of a file's lines say what kind of task it is", async () => {
  const texts = await loadJsonlTask(await file("a.jsonl", '{"text": "x"}', "", '{"text": "y", "cluster": 3}'));
  assert.deepEqual(texts.items, [
    { id: "1", cluster: undefined, text: "x" },
    { id: "2", cluster: "3", text: "y" },
  ]);
  assert.deepEqual([texts.name, texts.kind], ["a", "text"]);
  const completions = await loadJsonlTask(await file("b.jsonl", '{"prompt": "p", "completion": "c"}'));
  assert.equal(completions.kind, "completion");
  const choices = await loadJsonlTask(
    await file(
      "c.jsonl",
      '{"query": "q", "choices": ["x", "y"], "answer": "y"}',
      '{"prompt": "q", "choices": ["x", "y"], "answer": 0}',
    ),
  );
  assert.equal(choices.kind, "choice");
  assert.deepEqual(choices.kind === "choice" && choices.items.map(({ prompt, answer }) => [prompt, answer]), [
    ["q", 1],
    ["q", 0],
  ]);
  const answers = await loadJsonlTask(
    await file("d.jsonl", '{"id": 7, "prompt": "2+2=", "answer": ["4", "four"]}', '{"prompt": "3", "answer": 3}'),
  );
  assert.deepEqual(answers.kind === "answer" && answers.items, [
    { id: "7", cluster: undefined, prompt: "2+2=", answers: ["4", "four"] },
    { id: "2", cluster: undefined, prompt: "3", answers: ["3"] },
  ]);
});

test("a header sets name, format and examples", async () => {
  await file("train.jsonl", '{"prompt": "t", "answer": "1"}');
  const path = await file(
    "e.jsonl",
    "---",
    "name: sums",
    "examples: train.jsonl",
    'delimiter: "="',
    'stop: ["."]',
    "ignoreCase: true",
    "---",
    '{"prompt": "p", "answer": "2"}',
    '{"prompt": "own", "answer": "3", "split": "train"}',
  );
  const task = await loadJsonlTask(path);
  assert.equal(task.kind, "answer");
  assert.equal(task.name, "sums");
  assert.equal(task.kind === "answer" && task.ignoreCase, true);
  assert.deepEqual(
    task.examples?.map(({ id }) => id),
    ["train-1", "train-2"],
  );
  assert.equal(task.items.length, 1);
  const { preamble } = prepareTask(task, { shots: 2 });
  assert.deepEqual(preamble.split("\n\n").sort(), ["", "own=3", "t=1"]);
});

test("a bad line is named with its file and number", async () => {
  const fails = async (message: RegExp, ...lines: string[]) =>
    assert.rejects(loadJsonlTask(await file("bad.jsonl", ...lines)), { name: "PlinthError", message });
  await fails(/bad\.jsonl:3: not JSON/, '{"text": "x"}', "", "{oops}");
  await fails(/bad\.jsonl:1: expected a JSON object, got 7/, "7");
  await fails(/bad\.jsonl:2: unknown field "txet" \(did you mean "text"\?\)/, '{"text": "x"}', '{"txet": "y"}');
  await fails(/bad\.jsonl:1: cannot tell what kind of item this is from its fields prompt/, '{"prompt": "x"}');
  await fails(
    /bad\.jsonl:2: a completion item among text items/,
    '{"text": "x"}',
    '{"prompt": "p", "completion": "c"}',
  );
  await fails(
    /bad\.jsonl:1: answer "z" is none of the 2 choices/,
    '{"prompt": "p", "choices": ["x", "y"], "answer": "z"}',
  );
  await fails(/bad\.jsonl:1: answer 2 is none of the 2 choices/, '{"prompt": "p", "choices": ["x", "y"], "answer": 2}');
  await fails(/bad\.jsonl:1: "choices".*2/, '{"prompt": "p", "choices": ["x"], "answer": 0}');
  await fails(/bad\.jsonl:5: not JSON/, "---", "name: x", "---", '{"text": "x"}', "{");
  await fails(
    /bad\.jsonl: header: unknown field "stopp" \(did you mean "stop"\?\)/,
    "---",
    "stopp: x",
    "---",
    '{"text": "x"}',
  );
  await fails(/bad\.jsonl: header: extract: Invalid regular expression/, "---", 'extract: "("', "---", '{"text": "x"}');
  await fails(/bad\.jsonl: no items/, "");
});

test("tasks are named by name, name and data, or file", async () => {
  const path = await file("mine.jsonl", '{"text": "x"}');
  const text = await file("two.txt", "first<|endoftext|>second<|endoftext|>\n");
  const tasks = await loadTasks(`${path}, perplexity`, text);
  assert.deepEqual(
    tasks.map(({ name, items }) => [name, items.length]),
    [
      ["mine", 1],
      ["perplexity", 2],
    ],
  );
  await assert.rejects(loadTasks("perplexety"), /task "perplexety" is not known \(did you mean "perplexity"\?\)/);
  await assert.rejects(loadTasks("blimp"), /task blimp needs its data.*--tasks blimp=PATH, where PATH is BLiMP.zip/);
  await assert.rejects(loadTasks(join(folder, "none.jsonl")), /none\.jsonl: no such file/);
  await assert.rejects(loadTasks(`perplexity=${join(folder, "none")}`), /none: no such file or folder/);
  await assert.rejects(loadTasks(" , "), /no tasks are named/);
});

test("a dataset gives its held-out documents", async () => {
  for (let i = 0; i < 30; i++) await file(`book-${i}.md`, `Document number ${i}.`);
  const dataset = await buildDataset({ from: [join(folder, "*.md")], heldOut: 0.4, out: join(folder, "dataset") });
  const [task] = await loadTasks(`perplexity=${join(folder, "dataset")}`);
  const expected: string[] = [];
  for await (const document of dataset.documents("heldOut")) expected.push(document.text);
  assert.ok(expected.length > 3 && expected.length < 27);
  assert.deepEqual(task?.kind === "text" && task.items.map(({ text }) => text), expected);
});

test("BLiMP reads from its zip", { skip: skipWithout("eval/blimp/BLiMP.zip") }, async () => {
  const [task] = (await loadTasks(`blimp=${asset("eval/blimp/BLiMP.zip")}`)) as ChoiceTask[];
  assert.equal(task?.items.length, 67_000);
  const item = task?.items.find(({ id }) => id === "anaphor_number_agreement/0");
  assert.deepEqual(item?.choices, ["Susan revealed herself.", "Susan revealed themselves."]);
  assert.deepEqual([item?.prompt, item?.answer], ["", 0]);
  const broken = join(folder, "broken.zip");
  await writeFile(broken, "PK nothing");
  await assert.rejects(loadTasks(`blimp=${broken}`), /broken\.zip: not a zip archive.*Fix: download/);
});

test("SST-2 takes its examples from the training split", { skip: skipWithout("eval/sst2/dev.tsv") }, async () => {
  const [task] = (await loadTasks(`sst2=${asset("eval/sst2")}`)) as ChoiceTask[];
  assert.deepEqual([task?.items.length, task?.examples?.length], [872, 6920]);
  assert.equal(
    task?.items[0]?.prompt,
    "one long string of cliches\nQuestion: Is this sentence positive or negative?\nAnswer:",
  );
  const bad = await file("bad.tsv", "fine\t1", "no label");
  await assert.rejects(loadTasks(`sst2=${bad}`), /bad\.tsv:2: expected 2 columns separated by tabs, got 1/);
  const label = await file("label.tsv", "fine\t2");
  await assert.rejects(loadTasks(`sst2=${label}`), /label\.tsv:1: expected the label 0 or 1, got "2"/);
});

const task: ChoiceTask = {
  name: "t",
  kind: "choice",
  items: Array.from({ length: 10 }, (_, i) => ({
    id: `${i}`,
    prompt: `q${i}?`,
    choices: ["no", "yes"],
    answer: i % 2,
  })),
};

test("examples are chosen by seed and never tested", () => {
  const { items, preamble, notes } = prepareTask(task, { shots: 3, seed: 1 });
  const shown = preamble.split("\n\n").slice(0, -1);
  assert.equal(shown.length, 3);
  assert.equal(items.length, 7);
  for (const { prompt } of items) assert.ok(!preamble.includes(prompt), `${prompt} is tested and shown`);
  for (const text of shown) assert.match(text, /^q\d\? (no|yes)$/);
  assert.deepEqual(notes, ["3 items serve as examples and are not tested"]);
  assert.equal(prepareTask(task, { shots: 3, seed: 1 }).preamble, preamble);
  assert.notEqual(prepareTask(task, { shots: 3, seed: 2 }).preamble, preamble);
  const own = [{ id: "x", prompt: "own?", choices: ["no", "yes"], answer: 1 }];
  const separate = prepareTask({ ...task, examples: own, description: "Say. " }, { shots: 1 });
  assert.deepEqual([separate.preamble, separate.items.length], ["Say. own? yes\n\n", 10]);
  assert.throws(
    () => prepareTask({ ...task, examples: own }, { shots: 2 }),
    /2 examples are asked for, but it has 1 items/,
  );
  assert.throws(() => prepareTask(task, { shots: 10 }), /10 examples are asked for/);
});

test("a limit takes items at equal distances", () => {
  assert.deepEqual(
    prepareTask(task, { limit: 4 }).items.map(({ id }) => id),
    ["0", "2", "5", "7"],
  );
  assert.equal(prepareTask(task, { limit: 99 }).items.length, 10);
});
