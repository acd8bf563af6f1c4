/** Pairs of texts for next-sentence prediction. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import {
  heldOutSentencePairs,
  sentencePairBatches,
  type TokenDocuments,
  type Tokenizer,
  tokenDocuments,
  trainBpe,
} from "../../src/data/index.ts";
import type { NdArray } from "../../src/engine/index.ts";
import { bert, initModel, loadModel, withHead } from "../../src/models/index.ts";
import { pretrain } from "../../src/train/index.ts";

const context = 20;
let tokenizer: Tokenizer;
let documents: TokenDocuments;
let texts: string[];

before(async () => {
  texts = Array.from({ length: 12 }, (_, i) => {
    const word = "abcdefghijkl"[i] as string;
    return Array.from({ length: 6 }, (_, n) => `${word}${word} ${word}${n}.`).join(" ");
  });
  tokenizer = await trainBpe(texts, { vocabSize: 300, specialTokens: ["[SEP]", "[CLS]", "[PAD]", "[MASK]"] });
  const encoded = await tokenizer.encodeBatch(texts);
  const sep = tokenizer.tokenToId("[SEP]") as number;
  documents = tokenDocuments(
    encoded.map((ids) => ({ ids: [...ids, sep] })),
    tokenizer,
  );
});

/** What is in a row: the two texts, and whether they are said to belong together. */
async function rowsOf(batch: { tokens: NdArray; segments?: NdArray; tokenTypes?: NdArray; nextSentence?: NdArray }) {
  const [B, T] = batch.tokens.shape as [number, number];
  return Promise.all(
    Array.from({ length: B }, async (_, b) => {
      const part = (type: number): number[] =>
        Array.from({ length: T }, (_, t) => b * T + t)
          .filter((i) => batch.segments?.data[i] === 1 && batch.tokenTypes?.data[i] === type)
          .map((i) => batch.tokens.data[i] as number);
      const [a, c] = await Promise.all([0, 1].map((type) => tokenizer.decode(part(type), { skipSpecialTokens: true })));
      return { ids: [...part(0), ...part(1)], a: a as string, b: c as string, label: batch.nextSentence?.data[b] };
    }),
  );
}

test("half of the pairs follow each other in a document, the others are of two", async () => {
  const source = sentencePairBatches(documents, tokenizer, { batchSize: 64, context, seed: 1 });
  const [sep, cls] = [tokenizer.tokenToId("[SEP]"), tokenizer.tokenToId("[CLS]")];
  let follows = 0;
  for (let n = 0; n < 4; n++) {
    const batch = await source.next();
    assert.deepEqual(
      batch.targets.data.filter((t, i) => t !== (batch.segments?.data[i] === 1 ? batch.tokens.data[i] : -100)).length,
      0,
    );
    for (const { ids, a, b, label } of await rowsOf(batch)) {
      assert.deepEqual([ids[0], ids.at(-1), ids.filter((id) => id === sep).length], [cls, sep, 2]);
      assert.ok(a.length > 0 && b.length > 0);
      const isOne = texts.some((text) => text.includes(a + b));
      assert.equal(label, isOne ? 0 : 1, `${a} | ${b}`);
      if (isOne) follows++;
      // Every piece has a sentence's end inside, and is cut there.
      assert.match(a, /\.$/);
    }
  }
  assert.ok(follows > 90 && follows < 166, `${follows} of 256`);
});

test("a restored stream goes on with the very same batches; held-out pairs are always the same", async () => {
  const options = { batchSize: 8, context, seed: 3 };
  const [one, two] = [
    sentencePairBatches(documents, tokenizer, options),
    sentencePairBatches(documents, tokenizer, options),
  ];
  for (let i = 0; i < 5; i++) await one.next();
  two.restore(one.state());
  assert.deepEqual((await two.next()).tokens.data, (await one.next()).tokens.data);
  assert.throws(
    () => sentencePairBatches(documents, tokenizer, { ...options, batchSize: 4 }).restore(one.state()),
    /batchSize changed \(saved 8, now 4\)/,
  );
  const held = heldOutSentencePairs(documents, tokenizer, { ...options, maxBatches: 2 });
  const passes: unknown[][] = [[], []];
  for (const pass of passes)
    for await (const { tokens, nextSentence } of held) pass.push([tokens.data, nextSentence?.data]);
  assert.equal(passes[0]?.length, 2);
  assert.deepEqual(passes[0], passes[1]);
});

test("one document, or a tokenizer without a separator, is refused", async () => {
  const single = tokenDocuments([{ ids: [9, 8, 7, 6, 5] }], tokenizer);
  assert.throws(
    () => sentencePairBatches(single, tokenizer, { batchSize: 1, context }),
    /no two documents with texts to pair/,
  );
});

test("BERT learns masked tokens and next sentences together", async () => {
  const dials = { vocabSize: tokenizer.vocabSize, contextLength: context, hiddenSize: 32, numLayers: 2, numHeads: 4 };
  const base = { ...initModel(bert, bert.createConfig(dials), { seed: 1 }), tokenizer };
  const model = withHead(base, { head: "pretraining" });
  const folder = await mkdtemp(join(tmpdir(), "plinth-pairs-"));
  const losses: number[] = [];
  try {
    await pretrain(model, {
      data: sentencePairBatches(documents, tokenizer, { batchSize: 32, context }),
      heldOut: heldOutSentencePairs(documents, tokenizer, { batchSize: 32, context, maxBatches: 1 }),
      steps: 60,
      schedule: { name: "cosine", lr: 3e-3, warmupSteps: 5 },
      out: folder,
      onEvent: (event) => {
        if (event.kind === "step") losses.push(event.loss);
      },
    });
    const trained = await loadModel(folder);
    assert.deepEqual(trained.config.head, model.config.head);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  // log V for the tokens and log 2 for the pairs to begin with.
  assert.ok(Math.abs((losses[0] as number) - Math.log(tokenizer.vocabSize) - Math.LN2) < 0.5, `${losses[0]}`);
  assert.ok((losses.at(-1) as number) < 0.75 * (losses[0] as number), `${losses.at(-1)}`);
});
