import assert from "node:assert/strict";
import { test } from "node:test";
import { quickstartTasks } from "../../src/cli/quickstart/tasks.ts";

const text = [
  "import { readFile } from 'node:fs/promises';",
  "",
  "short",
  "The Quick brown fox, they said, jumps over the lazy dog.",
  "----------------------------------------------------",
  `${"word ".repeat(60)}end`,
].join("\n");

test("each task makes examples whose answer follows from the prompt", () => {
  const [restore, words] = quickstartTasks;
  const fox = restore?.examples(text).find((example) => example.completion.includes("fox"));
  assert.deepEqual(fox, {
    prompt: "plain: the quick brown fox they said jumps over the lazy dog\nrestored:",
    completion: " The Quick brown fox, they said, jumps over the lazy dog.\n",
  });
  const sorted = words?.examples(text).find((example) => example.prompt.includes("fox"));
  assert.equal(sorted?.completion, " brown, dog, fox, jumps, lazy, over, quick, said, the, they\n");
});

test("lines without words, short lines and long lines are handled", () => {
  for (const task of quickstartTasks) {
    for (const { prompt, completion } of task.examples(text)) {
      assert.ok(!prompt.includes("----"));
      assert.ok(!prompt.includes("short"));
      assert.ok(prompt.length < 200 && completion.length < 200);
    }
    assert.deepEqual(task.examples(""), []);
    assert.ok(task.examples(`${text}\n`.repeat(100)).length <= 6);
  }
});
