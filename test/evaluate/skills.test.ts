import assert from "node:assert/strict";
import { test } from "node:test";
import {
  allSkills,
  loadTasks,
  makeItems,
  readDifficulties,
  type SkillItem,
  trainingTexts,
} from "../../src/evaluate/index.ts";

/** Answers found by other means than the generators', from the prompt's text alone. */
const solvers: Record<string, (asked: string) => string> = {
  copy: (asked) => asked,
  reverse: (asked) => asked.split("").reverse().join(""),
  addition(asked) {
    const [a, b] = asked.split("+").map(BigInt) as [bigint, bigint];
    return `${a + b}`;
  },
  brackets(asked) {
    const partner: Record<string, string> = { "(": ")", "[": "]", "{": "}" };
    const open: string[] = [];
    for (const sign of asked) {
      if (sign in partner) open.unshift(partner[sign] as string);
      else assert.equal(open.shift(), sign, "what is closed is what was opened last");
    }
    return open.join("");
  },
  recall(asked) {
    const [pairs, key] = asked.split(" ? ") as [string, string];
    return pairs.split(" ").find((pair) => pair[0] === key)?.[1] ?? "none";
  },
  classification(asked) {
    const [examples, word] = asked.split(" ? ") as [string, string];
    const labels = new Set(examples.split(" ").flatMap((example) => (example[0] === word[0] ? [example[2]] : [])));
    assert.equal(labels.size, 1, "examples of a class agree");
    return [...labels][0] as string;
  },
};

const question = ({ prompt }: SkillItem): string => prompt.slice(prompt.indexOf(" ") + 1, -2);

for (const skill of allSkills()) {
  test(`${skill.name}: answers are right, and prompts grow with the difficulty`, () => {
    const lengths: number[] = [];
    for (const difficulty of [1, 2, 4, 8]) {
      const items = makeItems(skill, difficulty, { count: 20, split: "test" });
      assert.ok(items.length >= (difficulty === 1 ? 1 : 10), `${items.length}`);
      for (const item of items) {
        assert.equal(item.answer, (solvers[skill.name] as (text: string) => string)(question(item)), item.prompt);
      }
      lengths.push(Math.max(...items.map(({ prompt }) => prompt.length)));
    }
    assert.deepEqual(
      lengths,
      [...lengths].sort((a, b) => a - b),
    );
    assert.ok((lengths[3] as number) > (lengths[0] as number));
  });
}

test("a skill's brackets: as many closed on the way as stay open", () => {
  const brackets = allSkills().find(({ name }) => name === "brackets");
  assert.ok(brackets !== undefined);
  for (const item of makeItems(brackets, 3, { count: 30, split: "train" })) {
    assert.equal(item.answer.length, 3);
    assert.equal(question(item).length, 9);
  }
});

test("the same seed gives the same questions; none of the tasks' is among those to train on", async () => {
  const options = { skills: allSkills(), difficulties: [1, 2, 3], count: 3000, seed: 5 };
  const texts = [...trainingTexts(options)];
  assert.deepEqual([...trainingTexts(options)], texts);
  assert.notDeepEqual([...trainingTexts({ ...options, seed: 6 })], texts);
  const prompts = new Set(texts.map((text) => text.slice(0, text.indexOf(">") + 1)));
  const tasks = await loadTasks("copy=1-3,reverse=1-3,addition=1-3,brackets=1-3,recall=1-3,classification=1-3");
  assert.equal(tasks.length, 6);
  for (const task of tasks) {
    assert.equal(task.kind, "answer");
    assert.ok(task.items.every((item) => "prompt" in item && !prompts.has(item.prompt)));
    assert.match((task.items[0] as { id: string }).id, /^\w+\/1\/0$/);
  }
});

test("a difficulty that is none is refused", () => {
  assert.deepEqual(readDifficulties("2-4"), [2, 3, 4]);
  assert.throws(() => readDifficulties("0-3"), /"0-3" is no difficulty/);
  assert.throws(() => readDifficulties("hard"), /give a whole number from 1, or a range/);
});
