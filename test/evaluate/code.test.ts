import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { prepareTask } from "../../src/evaluate/few-shot.ts";
import { type CodeTask, evaluate, evaluateSolutions, loadTasks, passAtK } from "../../src/evaluate/index.ts";
import { sandboxIsolation } from "../../src/sandbox/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { reference as backend } from "../generate/support.ts";
import { letterModel } from "./support.ts";

const isolated = sandboxIsolation().mechanism !== "none";
const skip = isolated ? false : "this machine lets users make no namespaces and has no bubblewrap";
const humaneval = "eval/humaneval/HumanEval.jsonl.gz";
const mbpp = "eval/mbpp/mbpp.jsonl";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-code-"));
});
after(() => rm(folder, { recursive: true, force: true }));

test("pass@k is the share of k-subsets with a passing sample", () => {
  for (const [n, c] of [
    [5, 0],
    [5, 1],
    [6, 3],
    [7, 7],
    [8, 6],
  ] as const) {
    for (let k = 1; k <= n; k++) {
      let subsets = 0;
      let hits = 0;
      for (let bits = 0; bits < 2 ** n; bits++) {
        const chosen = Array.from({ length: n }, (_, i) => (bits >> i) & 1);
        if (chosen.reduce((sum, bit) => sum + bit, 0) !== k) continue;
        subsets++;
        if (chosen.slice(0, c).includes(1)) hits++;
      }
      assert.ok(Math.abs(passAtK(n, c, k) - hits / subsets) < 1e-12, `n ${n}, c ${c}, k ${k}`);
    }
  }
  assert.equal(passAtK(200, 200, 100), 1);
  assert.equal(passAtK(200, 0, 100), 0);
});

test("HumanEval: all canonical solutions pass, programs without a body fail", {
  skip: skip || skipWithout(humaneval),
}, async () => {
  const tasks = await loadTasks(`humaneval=${asset(humaneval)}`);
  assert.equal(tasks[0]?.items.length, 164);
  const [canonical] = await evaluateSolutions(tasks, "canonical");
  assert.deepEqual(
    [canonical?.metric, canonical?.value, canonical?.standardError, canonical?.count],
    ["pass@1", 1, 0, 164],
  );
  const [empty] = await evaluateSolutions(tasks, "empty", { limit: 24 });
  assert.deepEqual([empty?.value, empty?.count], [0, 24]);
});

test("MBPP: prompts, split and solutions", { skip: skip || skipWithout(mbpp) }, async () => {
  const [task] = await loadTasks(`mbpp=${asset(mbpp)}`);
  assert.ok(task?.kind === "code");
  assert.deepEqual(
    [task.items.length, task.items[0]?.id, task.items.at(-1)?.id, task.examples?.length],
    [500, "11", "510", 10],
  );
  const { preamble } = prepareTask(task, { shots: 2 });
  assert.equal(preamble.split("[BEGIN]\n").length, 3);
  assert.ok(preamble.endsWith("\n[DONE]\n\n"));
  const [canonical] = await evaluateSolutions([task], "canonical", { limit: 12 });
  assert.equal(canonical?.value, 1);
});

/** A task whose programs are a comment, whatever is written: they fail or pass by their tests alone. */
function commentTask(tests: readonly string[], format: Partial<CodeTask> = {}): CodeTask {
  const items = tests.map((test, i) => ({ id: `${i}`, prompt: "abc ", program: "# ", tests: test, solution: "x" }));
  return { name: "comments", kind: "code", stop: ["\n"], maxTokens: 6, delimiter: "", items, ...format };
}

test("a model's samples are counted per problem, whatever the batch size", { skip }, async () => {
  const model = await letterModel();
  const task = commentTask(["assert True", "assert False", "assert 1 + 1 == 2", "raise ValueError"]);
  const options = { backend, code: { samples: 3, ks: [1, 3] } };
  const results = await evaluate(model, [task], options);
  assert.deepEqual(
    results.map(({ metric, value, count }) => [metric, value, count]),
    [
      ["pass@1", 0.5, 4],
      ["pass@3", 0.5, 4],
    ],
  );
  assert.deepEqual(
    results[0]?.items.map(({ amount }) => amount),
    [1, 0, 1, 0],
  );
  assert.ok(Math.abs((results[0]?.standardError ?? 0) - 0.5 / Math.sqrt(3)) < 1e-12);
  assert.match(results[0]?.notes.join() ?? "", /programs ran: .*passed .*isolation: /);

  // programs that pass by what was written: the samples themselves do not depend on the batch
  const items = [..."abcd"].map((id) => ({ id, prompt: `${id} `, program: "x = r'''", tests: "pass" }));
  const quoted: CodeTask = { ...task, items, stop: ["\n", "e"] };
  const values = [];
  for (const batchSize of [1, 5]) {
    const [one] = await evaluate(model, [quoted], {
      backend,
      batchSize,
      code: { samples: 2, ks: [2], temperature: 1 },
    });
    values.push(one?.items.map(({ amount }) => amount));
  }
  assert.deepEqual(values[0], values[1]);
});

test("the three languages, from a file of one's own", { skip }, async () => {
  const lines = {
    python: { prompt: "def f(x):\n", solution: "    return x + 1", tests: "assert f(1) == 2" },
    javascript: { prompt: "function f(x) {\n", solution: "return x + 1 }", tests: "if (f(1) !== 2) throw new Error()" },
    typescript: {
      prompt: "function f(x: number): number {\n",
      solution: "return x + 1 }",
      tests: "if (f(1) !== 2) throw 1",
    },
  };
  for (const [language, item] of Object.entries(lines)) {
    const path = join(folder, `${language}.jsonl`);
    await writeFile(path, `---\nlanguage: ${language}\ntimeoutSeconds: 5\n---\n${JSON.stringify(item)}\n`);
    const tasks = await loadTasks(path);
    assert.equal(tasks[0]?.kind, "code");
    assert.equal((await evaluateSolutions(tasks, "canonical"))[0]?.value, 1, language);
    assert.equal((await evaluateSolutions(tasks, "empty"))[0]?.value, 0, language);
  }
});

test("what cannot be measured is refused by name", async () => {
  const model = await letterModel();
  const fails = (promise: Promise<unknown>, message: RegExp) =>
    assert.rejects(promise, { name: "PlinthError", message });
  const task = commentTask(["pass"]);
  await fails(
    evaluate(model, [task], { backend, code: { samples: 2, ks: [1, 10] } }),
    /pass@10 cannot be estimated from 2 samples per problem\. Fix: take at least 10/,
  );
  await fails(evaluate(model, [task], { backend, code: { samples: 0 } }), /samples is 0/);
  const unsolved = { ...task, items: [{ id: "7", prompt: "a", tests: "pass" }] };
  await fails(evaluateSolutions([unsolved], "canonical"), /item 7 has no solution of its own/);
  await fails(
    evaluate(model, [unsolved], { backend, shots: 1 }),
    /item 7 has no solution, so it cannot serve as an example/,
  );
  const texts = { name: "t", kind: "text" as const, items: [{ id: "1", text: "x" }] };
  await fails(evaluateSolutions([texts], "empty"), /task t has no programs to run/);
  await writeFile(join(folder, "bad.jsonl.gz"), "no gzip");
  await fails(loadTasks(`humaneval=${join(folder, "bad.jsonl.gz")}`), /not a gzip file/);
  await writeFile(join(folder, "bad.jsonl"), '{"task_id": "1"}\n');
  await fails(loadTasks(`humaneval=${join(folder, "bad.jsonl")}`), /bad\.jsonl:1: expected "prompt"/);
  await fails(loadTasks(`mbpp=${join(folder, "bad.jsonl")}`), /bad\.jsonl:1: not a problem of MBPP/);
});
