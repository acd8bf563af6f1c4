import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Batch,
  type BatchOptions,
  heldOutBatches,
  ignoreIndex,
  packedBatches,
  packingReport,
  type TokenDocuments,
  type Tokenizer,
  tokenDocuments,
  trainBpe,
  trainCharTokenizer,
} from "../../src/data/index.ts";

const tokenizer: Tokenizer = await trainBpe(["abcdefgh"], {
  vocabSize: 1500,
  specialTokens: ["<|endoftext|>", ...Array.from({ length: 1000 }, (_, i) => `<${i}>`)], // many distinct ids
});

/** Documents of the given lengths whose tokens are all different, so that every target names its place. */
function numbered(lengths: readonly number[], options: { addBos?: boolean; first?: number } = {}): TokenDocuments {
  let next = options.first ?? 1;
  const documents = lengths.map((length) => ({ ids: Array.from({ length }, () => next++) }));
  assert.ok(next <= tokenizer.vocabSize, "the test needs distinct ids");
  return tokenDocuments(documents, tokenizer, options);
}

function values(batch: Batch, name: "tokens" | "targets" | "positions" | "segments"): number[] {
  return [...((batch[name]?.data ?? []) as Int32Array)];
}

/** Targets of an epoch: batches until the number of rows is used up. */
async function take(documents: TokenDocuments, options: BatchOptions, batches: number): Promise<Batch[]> {
  const source = packedBatches(documents, options);
  const taken: Batch[] = [];
  for (let i = 0; i < batches; i++) taken.push(await source.next());
  return taken;
}

const lengths = [5, 1, 17, 8, 9, 2, 30, 3, 3, 4, 12, 7, 6, 21];
const total = lengths.reduce((a, b) => a + b, 0);

for (const addBos of [false, true]) {
  test(`every token is a target once per epoch, and follows its input${addBos ? " (with BOS)" : ", but a document's first"}`, async () => {
    const documents = numbered(lengths, { addBos });
    const context = 8;
    const targets: number[] = [];
    // Batches of one row: the epoch ends when the number of targets is reached.
    const source = packedBatches(documents, { batchSize: 1, context, seed: 3 });
    const expected = addBos ? total : total - lengths.length;
    const eos = tokenizer.eosId as number;
    while (targets.length < expected) {
      const batch = await source.next();
      const [x, y, p, s] = (["tokens", "targets", "positions", "segments"] as const).map((name) => values(batch, name));
      for (let i = 0; i < context; i++) {
        const target = y?.[i] as number;
        if (target === ignoreIndex) {
          assert.equal(s?.[i], 0);
          continue;
        }
        targets.push(target);
        assert.equal(x?.[i], x?.[i] === eos && addBos ? eos : target - 1);
        if (p?.[i] === 0) assert.notEqual(s?.[i], s?.[i - 1]);
        else assert.deepEqual([s?.[i], p?.[i]], [s?.[i - 1], (p?.[i - 1] as number) + 1]);
      }
      assert.equal(batch.tokenCount, y?.filter((target) => target !== ignoreIndex).length);
    }
    let next = 1;
    const all = lengths.flatMap((length) => Array.from({ length }, (_, i) => ({ id: next++, first: i === 0 })));
    const wanted = all.filter(({ first }) => addBos || !first).map(({ id }) => id);
    assert.deepEqual(
      targets.toSorted((a, b) => a - b),
      wanted,
    );
  });
}

test("epochs use different orders, seeds too; the same seed gives the same batches", async () => {
  const documents = numbered(Array.from({ length: 60 }, () => 9));
  const options = { batchSize: 60, context: 8 };
  const [first, second] = await take(documents, { ...options, seed: 1 }, 2);
  const [again] = await take(documents, { ...options, seed: 1 }, 1);
  const [other] = await take(documents, { ...options, seed: 2 }, 1);
  const order = (batch: Batch | undefined) => values(batch as Batch, "tokens");
  assert.deepEqual(order(first), order(again));
  for (const batch of [second, other]) {
    assert.notDeepEqual(order(first), order(batch));
    assert.deepEqual(order(first).toSorted(), order(batch).toSorted());
  }
});

const modes = ["packed", "contiguous"] as const;
for (const mode of modes) {
  test(`a restored stream goes on with the very same batches (${mode}), at every position over several epochs`, async () => {
    const documents = numbered(lengths);
    const options: BatchOptions = { batchSize: 3, context: 8, seed: 7, mode };
    const mixture =
      mode === "packed"
        ? [
            { documents, weight: 2 },
            { documents: numbered([4, 40, 4]), weight: 1 },
          ]
        : documents;
    const source = packedBatches(mixture, options);
    const states: string[] = [];
    const batches: Batch[] = [];
    for (let i = 0; i < 20; i++) {
      states.push(JSON.stringify(source.state()));
      batches.push(await source.next());
    }
    for (const [i, state] of states.entries()) {
      assert.ok(state.length < 400, "the state is small");
      const restored = packedBatches(mixture, options);
      restored.restore(JSON.parse(state));
      for (const expected of batches.slice(i, i + 4)) assert.deepEqual(await restored.next(), expected);
    }
  });
}

test("a state of other data or settings is refused by name", () => {
  const documents = numbered(lengths);
  const options: BatchOptions = { batchSize: 3, context: 8, seed: 7 };
  const state = packedBatches(documents, options).state();
  assert.throws(
    () => packedBatches(numbered([9, 9]), options).restore(state),
    /the data, its weights or the tokenizer changed/,
  );
  assert.throws(
    () => packedBatches(documents, { ...options, context: 4 }).restore(state),
    /context changed \(saved 8, now 4\)/,
  );
  assert.throws(() => packedBatches(documents, { ...options, mode: "contiguous" }).restore(state), /mode changed/);
  assert.throws(() => packedBatches(documents, options).restore(null), {
    message: /cannot continue the data where the checkpoint left off/,
  });
});

test("packing is dense and cuts only documents longer than the context", async () => {
  const documents = numbered(
    Array.from({ length: 97 }, (_, i) => 3 + (i % 7) * 2 - (i % 2)),
    { first: 0 },
  );
  const report = packingReport(documents, 16);
  assert.equal(report.splitDocuments, 0);
  assert.equal(report.chunks, 97);
  let targets = 0;
  let rows = 0;
  for await (const batch of heldOutBatches(documents, { batchSize: 1, context: 16 })) {
    targets += batch.tokenCount;
    rows++;
  }
  assert.equal(targets, report.targets);
  assert.ok(rows <= Math.ceil(targets / 16) + 1, `${rows} rows for ${targets} targets of 16 per row`);
  assert.equal(packingReport(numbered([100, 5]), 16).splitDocuments, 1);
});

test("a mixture keeps its weights at all times", async () => {
  const a = numbered(Array.from({ length: 8 }, () => 9));
  const b = numbered(
    Array.from({ length: 8 }, () => 9),
    { first: 100 },
  );
  const source = packedBatches(
    [
      { documents: a, weight: 3 },
      { documents: b, weight: 1 },
    ],
    { batchSize: 4, context: 8 },
  );
  for (let i = 0; i < 10; i++) {
    const tokens = values(await source.next(), "tokens");
    assert.equal(tokens.filter((id) => id >= 100).length, 8, "one row of four");
  }
});

test("held-out batches: every target once, the same each time, padded to one shape", async () => {
  for (const mode of modes) {
    const documents = numbered(lengths);
    const batches = heldOutBatches(documents, { batchSize: 4, context: 8, mode });
    const first: Batch[] = [];
    for await (const batch of batches) first.push(batch);
    const again: Batch[] = [];
    for await (const batch of batches) again.push(batch);
    assert.deepEqual(first, again);
    const targets = first.flatMap((batch) => values(batch, "targets")).filter((id) => id !== ignoreIndex);
    assert.equal(new Set(targets).size, targets.length);
    assert.equal(targets.length, mode === "packed" ? total - lengths.length : total - 1);
    for (const batch of first) assert.deepEqual(batch.tokens.shape, [4, 8]);
  }
  const limited = heldOutBatches(numbered(lengths), { batchSize: 4, context: 8, maxBatches: 1 });
  let count = 0;
  for await (const _ of limited) count++;
  assert.equal(count, 1);
  for (const mode of modes) {
    for await (const batch of heldOutBatches(numbered([]), { batchSize: 4, context: 8, mode }))
      assert.fail(`${batch.tokenCount} tokens`);
  }
  const spread: number[] = [];
  for await (const batch of heldOutBatches(numbered([400]), {
    batchSize: 1,
    context: 8,
    maxBatches: 4,
    mode: "contiguous",
  })) {
    spread.push(values(batch, "tokens")[0] as number);
  }
  assert.deepEqual(spread, [1, 97, 201, 297]);
});

test("contiguous windows are stretches of the stream", async () => {
  const documents = numbered(lengths);
  const [batch] = await take(documents, { batchSize: 50, context: 8, mode: "contiguous", seed: 1 }, 1);
  const x = values(batch as Batch, "tokens");
  const y = values(batch as Batch, "targets");
  for (const [i, id] of x.entries()) {
    assert.equal(y[i], id + 1);
    if (i % 8 > 0) assert.equal(id, (x[i - 1] as number) + 1);
  }
  assert.equal((batch as Batch).segments, undefined);
  assert.ok(new Set(x.filter((_, i) => i % 8 === 0)).size > 25, "starts vary");
});

test("the bytes of all targets are the bytes of the text", async () => {
  const texts = ["héllo wörld 😀".repeat(9), "abc", "日本語"];
  const encoded = await tokenizer.encodeBatch(texts);
  const eos = tokenizer.eosId as number;
  const documents = tokenDocuments(
    encoded.map((ids) => ({ ids: [...ids, eos] })),
    tokenizer,
    { addBos: true },
  );
  let bytes = 0;
  for await (const batch of heldOutBatches(documents, { batchSize: 2, context: 16 })) bytes += batch.byteCount;
  assert.equal(bytes, Buffer.byteLength(texts.join("")));
});

test("a loss mask decides which targets count; chunks without any are left out", async () => {
  const ids = Array.from({ length: 40 }, (_, i) => i + 1);
  const lossMask = ids.map((id) => (id === 5 || id === 6 || id === 40 ? 1 : 0));
  const documents = tokenDocuments(
    [
      { ids, lossMask },
      { ids: [50, 51], lossMask: [0, 1] },
      { ids: [60, 61], lossMask: [1, 0] },
    ],
    tokenizer,
  );
  const batches: Batch[] = [];
  for await (const batch of heldOutBatches(documents, { batchSize: 1, context: 8 })) batches.push(batch);
  const targets = batches.flatMap((batch) => values(batch, "targets")).filter((id) => id !== ignoreIndex);
  assert.deepEqual(
    targets.toSorted((a, b) => a - b),
    [5, 6, 40, 51],
  );
  assert.equal(
    batches.reduce((sum, batch) => sum + batch.tokenCount, 0),
    4,
  );
  assert.ok(
    batches.every((batch) => !values(batch, "tokens").includes(10)),
    "the middle of the document says nothing",
  );
});

test("nothing to predict, bad weights and ids out of range are errors with a fix", () => {
  const options = { batchSize: 1, context: 8 };
  assert.throws(
    () => packedBatches(numbered([1, 1]), options),
    /dataset 1 of the mixture has 2 tokens in 2 documents, nothing to predict/,
  );
  assert.throws(
    () => packedBatches(numbered([5]), { ...options, mode: "contiguous" }),
    /Fix: use a shorter context or more text/,
  );
  assert.throws(
    () => packedBatches([{ documents: numbered([5]), weight: 0 }], options),
    /expected a weight > 0, got 0/,
  );
  assert.throws(() => packedBatches([], options), /the mixture has no datasets/);
  assert.throws(() => packedBatches(numbered([5]), { ...options, context: 0 }), /--context: expected a whole number/);
  assert.throws(
    () => tokenDocuments([{ ids: [1, 7000] }], tokenizer),
    /token id 7000 at position 1 is not in the vocabulary/,
  );
});

test("a document of many rows is spread over the epoch, not read in one stretch", async () => {
  const tokenizer = await trainCharTokenizer(["ab"]);
  const [a, b] = [tokenizer.tokenToId("a") as number, tokenizer.tokenToId("b") as number];
  const context = 8;
  // One document of 2000 rows among 2000 documents of one row each.
  const long = { ids: new Array<number>(2000 * context).fill(a) };
  const short = Array.from({ length: 2000 }, () => ({ ids: new Array<number>(context + 1).fill(b) }));
  const source = packedBatches(tokenDocuments([long, ...short], tokenizer), { batchSize: 100, context, seed: 1 });
  for (let i = 0; i < 40; i++) {
    const { tokens } = await source.next();
    const share = tokens.data.filter((id) => id === a).length / tokens.size;
    assert.ok(share > 0.3 && share < 0.7, `batch ${i}: ${share} of the tokens are the long document's`);
  }
});
