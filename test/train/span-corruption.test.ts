import assert from "node:assert/strict";
import { test } from "node:test";
import { trainBpe } from "../../src/data/index.ts";
import { HostRandom, NdArray } from "../../src/engine/index.ts";
import { gpt2, initModel, t5 } from "../../src/models/index.ts";
import {
  corruptSpans,
  createOptimizer,
  pretrainingObjective,
  spanCorruptionBatch,
  spanCorruptionOf,
  TrainStep,
} from "../../src/train/index.ts";

const sentinelIds = Array.from({ length: 100 }, (_, i) => 1000 + i);
const tokenBytes = new Uint16Array(1100).fill(1, 0, 1000);
const options = { sentinelIds, eosId: 1, startId: 0, tokenBytes };
const text = (length: number): number[] => Array.from({ length }, (_, i) => 10 + (i % 900));

/** Puts the spans back where their sentinels stand. */
function restore({ source, target }: { source: readonly number[]; target: readonly number[] }): number[] {
  const spans = new Map<number, number[]>();
  let current: number[] = [];
  for (const id of target) {
    if (id < 1000) current.push(id);
    else spans.set(id, (current = []));
  }
  current.pop(); // the end of the text
  return source.flatMap((id) => spans.get(id) ?? [id]);
}

test("source and target together are the text, of every length; the lengths are the paper's", () => {
  const random = new HostRandom(1);
  for (const length of [2, 3, 4, 7, 20, 64, 568]) {
    const made = corruptSpans(text(length), random, options);
    assert.deepEqual(restore(made), text(length), `${length} tokens`);
    assert.equal(made.target.at(-1), 1);
  }
  // 568 tokens fill an input of 512 with its end-of-text token and a target of 114 (Raffel et al. 2020).
  const made = corruptSpans(text(568), random, options);
  assert.deepEqual([made.source.length + 1, made.target.length], [512, 114]);
});

test("spans start anywhere and are of different lengths", () => {
  const random = new HostRandom(2);
  const [n, runs] = [40, 4000];
  const taken = new Array<number>(n).fill(0);
  const lengths = new Map<number, number>();
  for (let run = 0; run < runs; run++) {
    const { source, target } = corruptSpans(text(n), random, options);
    const kept = new Set(source);
    for (let i = 0; i < n; i++) if (!kept.has(10 + i)) taken[i] = (taken[i] as number) + 1;
    const marks = [...target.keys()].filter((i) => (target[i] as number) >= 1000);
    const first = (marks[1] ?? 0) - 1;
    lengths.set(first, (lengths.get(first) ?? 0) + 1);
  }
  // Six of 40 tokens in two spans: the first token is never taken, all five divisions of six are equally likely.
  assert.equal(taken[0], 0);
  assert.equal(taken.reduce((a, b) => a + b) / runs, 6);
  for (let length = 1; length <= 5; length++) {
    assert.ok(Math.abs((lengths.get(length) ?? 0) / runs - 0.2) < 0.03, `first span of ${length}`);
  }
});

test("packed documents stay apart, what does not fit is cut, and a batch depends on seed and number alone", () => {
  const T = 96;
  const lengths = [40, 1, 53];
  const segments = lengths.flatMap((n, i) => new Array<number>(n).fill(i + 1)).concat([0, 0]);
  const tokens = NdArray.int32([1, T], text(T));
  const batch = { tokens, targets: tokens, segments: NdArray.int32([1, T], segments), tokenCount: 0, byteCount: 0 };
  const make = (number: number) => spanCorruptionBatch(batch, options, { seed: 5, number });
  const { arrays, tokenCount, byteCount } = make(0);
  const { source, sourceSegments, tokens: given, segments: own, targets } = arrays as Record<string, NdArray>;
  assert.deepEqual(
    [source?.shape, given?.shape],
    [
      [1, T],
      [1, 32],
    ],
  );
  const of = (ids: NdArray | undefined, marks: NdArray | undefined, segment: number): number[] =>
    [...(ids?.data ?? [])].filter((_, i) => marks?.data[i] === segment) as number[];
  for (const [segment, from, to] of [
    [1, 0, 40],
    [3, 41, 94],
  ] as const) {
    const target = of(targets, own, segment);
    const read = { source: of(source, sourceSegments, segment), target };
    assert.deepEqual(restore(read), text(T).slice(from, to));
    assert.deepEqual(of(given, own, segment), [0, ...target.slice(0, -1)]);
  }
  assert.deepEqual(of(targets, own, 2), [], "nothing can be taken out of one token");
  const counted = [...(targets?.data ?? [])].filter((id) => id !== -100);
  assert.equal(tokenCount, counted.length);
  assert.equal(byteCount, counted.filter((id) => id < 1000).length);
  assert.deepEqual(make(0).arrays, arrays);
  assert.notDeepEqual(make(1).arrays.source?.data, source?.data);
});

test("T5 learns it; models and tokenizers that cannot are refused", async () => {
  const special = ["</s>", ...Array.from({ length: 20 }, (_, i) => `<extra_id_${i}>`)];
  const tokenizer = await trainBpe(["the cat sat on the mat and the dog sat on the log "], {
    vocabSize: 300,
    specialTokens: special,
  });
  const dials = { vocabSize: 300, contextLength: 32, hiddenSize: 32, numLayers: 1, numHeads: 2, eosTokenId: 0 };
  const model = { ...initModel(t5, t5.createConfig(dials), { seed: 1 }), tokenizer };
  const prepared = pretrainingObjective(undefined, model.family).prepare(model, {});
  const tokens = NdArray.int32(
    [4, 32],
    Array.from({ length: 128 }, (_, i) => 100 + (i % 7)),
  );
  const batch = { tokens, targets: tokens, tokenCount: 0, byteCount: 0 };
  let number = 0;
  const data = prepared.data({
    next: async () => batch,
    state: () => number,
    restore: (n) => void (number = n as number),
    reports: [],
  });
  const { loss } = prepared;
  const step = new TrainStep(
    Object.fromEntries(model.params),
    {},
    { loss, optimizer: createOptimizer("adamw", {}), clipNorm: 1, decay: () => false, accumulate: 1, seed: 0 },
  );
  const firstBatch = await data.next();
  step.compile(firstBatch);
  step.initialiseSlots();
  const { loss: first } = await step.run(1, 5e-3, [firstBatch]);
  let last = first;
  for (let i = 2; i <= 60; i++) last = (await step.run(i, 5e-3, [await data.next()])).loss;
  assert.ok(Math.abs(first - Math.log(300)) < 0.4, `starts at ${first}`);
  assert.ok(last < 0.6 * first, `from ${first} to ${last}`);
  const saved = data.state();
  const expected = (await data.next()).arrays;
  data.restore(saved);
  assert.deepEqual((await data.next()).arrays, expected);

  assert.throws(
    () => pretrainingObjective("span", gpt2).prepare(initModel(gpt2, gpt2.createConfig(dials), { seed: 1 }), {}),
    /objective span: gpt2 does not read a source.*Fix: use an encoder-decoder/,
  );
  assert.throws(() => pretrainingObjective("clm", t5).prepare(model, {}), /objective clm: t5 is an encoder-decoder/);
  const plain = await trainBpe(["the cat"], { vocabSize: 260 });
  assert.throws(
    () => spanCorruptionOf({ ...model, tokenizer: plain }),
    /the tokenizer has no sentinels \(<extra_id_0>/,
  );
  assert.throws(
    () => pretrainingObjective("spam", gpt2),
    /objective "spam" is not known.*Fix: use one of clm, mlm, span/,
  );
});
