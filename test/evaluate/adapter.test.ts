import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { initLora, linearModules, mergeLora, withLora, writePeft } from "../../src/adapt/index.ts";
import { main } from "../../src/cli/main.ts";
import { HostRandom, NdArray } from "../../src/engine/index.ts";
import { compareResults, evaluate, type Task, type TaskResult } from "../../src/evaluate/index.ts";
import { generateText } from "../../src/generate/index.ts";
import type { Model } from "../../src/models/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { stories, storiesModel } from "../generate/support.ts";

const skip = skipWithout(stories);
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-adapter-"));
});
after(() => rm(folder, { recursive: true, force: true }));

const texts = [
  "Once upon a time, there was a girl.",
  "She saw a big ball.",
  "Tom was sad.",
  "The cat ran to the park.",
];
const task: Task = { name: "t", kind: "text", items: texts.map((text, i) => ({ id: `${i}`, text })) };

/** An adapter that does something: random B, where training would begin with zeros. */
function randomLora(model: Model) {
  const random = new HostRandom(3);
  const adapter = initLora(model, { rank: 4, seed: 1 });
  const params = Object.fromEntries(
    Object.entries(adapter.params).map(([name, array]) => {
      if (!name.endsWith("lora_B.weight")) return [name, array];
      return [
        name,
        NdArray.float32(
          array.shape,
          Float32Array.from({ length: array.size }, () => 0.2 * random.normal()),
        ),
      ];
    }),
  );
  return { ...adapter, params };
}

async function bits(model: Model): Promise<TaskResult> {
  return (await evaluate(model, [task]))[0] ?? assert.fail();
}

test("an adapted model generates and is measured like the merged one, and the base stays as it was", {
  skip,
}, async () => {
  const base = await storiesModel();
  const before = await bits(base);
  const adapter = randomLora(base);
  const adapted = withLora(base, adapter);
  const merged = await mergeLora(base, adapter);
  const [a, m] = [await bits(adapted), await bits(merged)];
  assert.ok(Math.abs(a.value - m.value) < 1e-5, `${a.value} and ${m.value}`);
  assert.ok(a.value > before.value + 0.01, "random weights do harm");
  assert.deepEqual(await bits(base), before);
  const { better = 0, count } = compareResults(before, a);
  assert.equal(count, texts.length);
  assert.ok(better > 1, `${better} standard errors`);

  const greedy = { temperature: 0, maxTokens: 20 };
  const { tokens } = await generateText(adapted, "Once upon a time", greedy);
  assert.deepEqual(tokens, (await generateText(merged, "Once upon a time", greedy)).tokens);
  assert.notDeepEqual(tokens, (await generateText(base, "Once upon a time", greedy)).tokens);
});

test("plinth generate and eval take --adapter", { skip: skipWithout(stories, "eval/sst2/dev.tsv") }, async () => {
  const base = await storiesModel();
  const adapter = randomLora(base);
  await writePeft(adapter, linearModules(base), folder);
  const run = async (...argv: string[]): Promise<Record<string, unknown>> => {
    let out = "";
    const code = await main([...argv, "--json"], {
      out: { write: (text: string) => (out += text) },
      err: { write() {} },
    });
    assert.equal(code, 0);
    return JSON.parse(out) as Record<string, unknown>;
  };
  const flags = ["--adapter", folder, "--prompt", "Once upon a time", "--temperature", "0", "--max-tokens", "20"];
  const document = await run("generate", asset(stories), ...flags);
  const expected = await generateText(withLora(base, adapter), "Once upon a time", { temperature: 0, maxTokens: 20 });
  assert.deepEqual(document.tokens, expected.tokens);
  const tasks = ["--tasks", `sst2=${asset("eval/sst2")}`, "--limit", "8", "--shots", "2"];
  const scored = await run("eval", asset(stories), "--adapter", folder, ...tasks);
  assert.deepEqual(
    (scored.tasks as { metric: string; count: number }[]).map(({ metric, count }) => [metric, count]),
    [
      ["accuracy", 8],
      ["accuracy-norm", 8],
    ],
  );
});
