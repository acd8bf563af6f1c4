import assert from "node:assert/strict";
import { test } from "node:test";
import { trainCharTokenizer } from "../../src/data/index.ts";
import { HostRandom } from "../../src/engine/index.ts";
import { type ChoiceTask, compareResults, evaluateNgram, NgramModel, type TextTask } from "../../src/evaluate/index.ts";

/** A text over four tokens with some order in it. */
function documents(seed: number, count = 40): number[][] {
  const random = new HostRandom(seed);
  return Array.from({ length: count }, () => {
    const ids = [random.int(4)];
    while (ids.length < 12) ids.push(random.uniform() < 0.7 ? ((ids.at(-1) as number) + 1) % 4 : random.int(4));
    return ids;
  });
}

/** Interpolated modified Kneser-Ney as Chen & Goodman 1999 write it, counted anew for every probability. */
function byHand(
  train: readonly number[][],
  order: number,
  context: readonly number[],
  token: number,
  V: number,
): number {
  const padded = train.map((ids) => [...Array(order - 1).fill(V), ...ids] as number[]);
  const highest = padded.flatMap((ids) => ids.slice(order - 1).map((_, i) => ids.slice(i, i + order)));
  let grams = new Map<string, number>();
  for (const gram of highest) grams.set(gram.join(), (grams.get(gram.join()) ?? 0) + 1);
  const tables = [grams];
  for (let n = order - 1; n >= 1; n--) {
    const lower = new Map<string, number>();
    for (const gram of grams.keys()) {
      const rest = gram.split(",").slice(1).join();
      lower.set(rest, (lower.get(rest) ?? 0) + 1);
    }
    grams = lower;
    tables.unshift(grams);
  }
  const history = [...Array(order - 1).fill(V), ...context].slice(-(order - 1)) as number[];
  let probability = 1 / V;
  for (const [i, table] of tables.entries()) {
    const seen = (k: number): number => [...table.values()].filter((count) => count === k).length;
    const y = seen(1) / (seen(1) + 2 * seen(2));
    const D = [1, 2, 3].map((k) => {
      const discount = k - ((k + 1) * y * seen(k + 1)) / seen(k);
      return discount > 0 && discount < k ? discount : k / 2;
    }) as [number, number, number];
    const before = history.slice(history.length - i);
    const following = [...table].filter(([gram]) => gram.split(",").slice(0, -1).join() === before.join());
    const total = following.reduce((sum, [, count]) => sum + count, 0);
    if (total === 0) break;
    const discount = (count: number): number => (count === 0 ? 0 : (D[Math.min(count, 3) - 1] as number));
    const gamma = following.reduce((sum, [, count]) => sum + discount(count), 0) / total;
    const count = table.get([...before, token].join()) ?? 0;
    probability = (count - discount(count)) / total + gamma * probability;
  }
  return probability;
}

test("probabilities are those of modified Kneser-Ney by hand, and sum to one", async () => {
  const train = documents(1);
  for (const order of [1, 2, 3, 5]) {
    const model = await NgramModel.train(train, { order, vocabSize: 5 });
    for (const context of [[], [0], [1, 2], [3, 3, 3, 3, 3], [0, 1, 2, 3, 0, 1]]) {
      const all = [0, 1, 2, 3, 4].map((token) => model.probability(context, token));
      assert.ok(Math.abs(all.reduce((a, b) => a + b) - 1) < 1e-9, `order ${order} after ${context}`);
      for (const token of [0, 2, 4]) {
        const expected = byHand(train, order, context, token, 5);
        assert.ok(Math.abs((all[token] as number) - expected) < 1e-12, `order ${order}: ${all[token]} not ${expected}`);
      }
    }
  }
});

test("a longer context predicts ordered text better, and unseen tokens are possible", async () => {
  const loss = async (order: number): Promise<number> => {
    const model = await NgramModel.train(documents(1, 200), { order, vocabSize: 5 });
    const scores = documents(2).flatMap((ids) => [...model.score(ids)]);
    return -scores.reduce((a, b) => a + b) / scores.length;
  };
  assert.ok((await loss(2)) < (await loss(1)) - 0.2);
  const model = await NgramModel.train(documents(1), { vocabSize: 5 });
  assert.ok(Number.isFinite(model.score([4, 4, 4])[1]));
});

test("tasks: the metrics of a neural model, by group", async () => {
  const tokenizer = await trainCharTokenizer(["abcd "]);
  const ids = await tokenizer.encodeBatch(["abab abab", "cdcd cdcd", "abab cdcd"]);
  const model = await NgramModel.train(ids, { order: 3, vocabSize: tokenizer.vocabSize });
  const choice: ChoiceTask = {
    name: "order",
    kind: "choice",
    delimiter: "",
    items: [
      { id: "x/1", group: "letters", prompt: "", choices: ["abab", "baba"], answer: 0 },
      { id: "x/2", prompt: "cd", choices: ["cd", "ab"], answer: 0 },
    ],
  };
  const text: TextTask = { name: "text", kind: "text", items: [{ id: "1", text: "abab" }] };
  const results = await evaluateNgram(model, tokenizer, [choice, text]);
  assert.deepEqual(
    results.map(({ name, metric }) => `${name} ${metric}`),
    ["order accuracy", "order accuracy-norm", "text bits-per-byte", "text perplexity"],
  );
  assert.equal(results[0]?.value, 1);
  assert.equal(results[0]?.items[0]?.group, "letters");
  assert.equal(compareResults(results[0] as never, results[0] as never).difference, 0);
  await assert.rejects(
    evaluateNgram(model, tokenizer, [
      { name: "sum", kind: "answer", items: [{ id: "1", prompt: "", answers: ["1"] }] },
    ]),
    /task sum lets a model write, and an n-gram model only scores/,
  );
});

test("wrong calls", async () => {
  await assert.rejects(NgramModel.train([], { vocabSize: 5 }), /no tokens to count/);
  await assert.rejects(NgramModel.train([[1]], { vocabSize: 5, order: 0 }), /order 0/);
  await assert.rejects(NgramModel.train([[1]], { vocabSize: 100_000 }), /a vocabulary of 100000 tokens/);
});
