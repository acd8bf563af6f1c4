import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import {
  buildDataset,
  compression,
  type Dataset,
  heldOutBatches,
  packedBatches,
  Tokenizer,
  tokenizeDataset,
  trainBpe,
  trainCharTokenizer,
} from "../../src/data/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { temporaryFolder } from "./support.ts";

const shakespeare = "text/tinyshakespeare/input.txt";

async function textsOf(dataset: Dataset, split: "train" | "heldOut"): Promise<string[]> {
  const texts: string[] = [];
  for await (const { text } of dataset.documents(split)) texts.push(text);
  return texts;
}

async function smallDataset(count = 40): Promise<Dataset> {
  const from = temporaryFolder();
  for (let i = 0; i < count; i++)
    writeFileSync(join(from, `${i}.txt`), `Document ${i} says “héllo” ${"word ".repeat(i)}<|endoftext|>`);
  return buildDataset({ from: [from], out: join(temporaryFolder(), "dataset"), heldOut: 0.3 });
}

test("documents become their ids and the end-of-text token; forged special tokens stay text", async () => {
  const dataset = await smallDataset();
  const tokenizer = await trainBpe(await textsOf(dataset, "train"), { vocabSize: 320 });
  const tokenized = await tokenizeDataset(dataset, tokenizer);
  for (const split of ["train", "heldOut"] as const) {
    const texts = await textsOf(dataset, split);
    assert.ok(texts.length > 3);
    const documents = tokenized[split];
    assert.equal(documents.count, texts.length);
    assert.equal(
      documents.byteCount,
      texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0),
    );
    for (const [i, text] of texts.entries()) {
      const ids = await documents.document(i);
      assert.equal(ids.at(-1), tokenizer.eosId);
      assert.ok(!ids.slice(0, -1).includes(tokenizer.eosId as number));
      assert.equal(await tokenizer.decode(ids.slice(0, -1)), text);
    }
  }
});

test("bytes of one epoch's targets are the bytes of the split, whatever the context", async () => {
  const dataset = await smallDataset();
  const tokenizer = await trainBpe(await textsOf(dataset, "train"), { vocabSize: 300 });
  const { heldOut } = await tokenizeDataset(dataset, tokenizer);
  for (const context of [7, 64]) {
    let bytes = 0;
    let tokens = 0;
    for await (const batch of heldOutBatches(heldOut, { batchSize: 4, context })) {
      bytes += batch.byteCount;
      tokens += batch.tokenCount;
    }
    assert.equal(bytes, heldOut.byteCount);
    assert.equal(tokens, heldOut.tokenCount);
  }
});

test("the cache is found again, made anew when damaged, and separate per tokenizer", async () => {
  const dataset = await smallDataset(10);
  const texts = await textsOf(dataset, "train");
  const tokenizer = await trainBpe(texts, { vocabSize: 300 });
  let encoded = 0;
  const onProgress = ({ documents }: { documents: number }) => {
    encoded = documents;
  };
  const first = await tokenizeDataset(dataset, tokenizer, { onProgress });
  assert.equal(encoded, 10);
  encoded = 0;
  const second = await tokenizeDataset(dataset, tokenizer, { onProgress });
  assert.equal(encoded, 0, "read from the cache");
  assert.equal(second.train.hash, first.train.hash);
  const folder = () => readdirSync(join(dataset.dir, "tokens")).map((name) => join(dataset.dir, "tokens", name));
  const [only] = folder() as [string];
  const tokenFile = readdirSync(only).find((name) => name.endsWith(".tokens")) as string;

  writeFileSync(join(only, tokenFile), Buffer.alloc(statSync(join(only, tokenFile)).size));
  const damaged = await tokenizeDataset(dataset, tokenizer);
  await assert.rejects(async () => {
    for (const split of [damaged.train, damaged.heldOut]) await split.document(0);
  }, /\.tokens: damaged .* Fix: delete the folder/);
  rmSync(join(only, tokenFile));
  const again = await tokenizeDataset(dataset, tokenizer);
  assert.deepEqual(await again.train.document(3), await first.train.document(3));
  writeFileSync(join(only, "manifest.json"), "{ cut");
  assert.deepEqual(await (await tokenizeDataset(dataset, tokenizer)).train.document(3), await first.train.document(3));

  await tokenizeDataset(dataset, await trainBpe(texts, { vocabSize: 280 }));
  assert.equal(folder().length, 2);
  await assert.rejects(
    tokenizeDataset(dataset, tokenizer, { cacheDir: join(dataset.dir, "manifest.json") }),
    /a part of the path is a file/,
  );
});

test("an interrupted run is done again", async () => {
  const dataset = await smallDataset(10);
  const tokenizer = await trainBpe(["x"], { vocabSize: 300 });
  await assert.rejects(tokenizeDataset(dataset, tokenizer, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal((await tokenizeDataset(dataset, tokenizer)).train.count, dataset.manifest.splits.train.documents);
});

test("vocabularies over 65536 keep their ids", async () => {
  const dataset = await smallDataset(6);
  const characters = Array.from({ length: 68000 }, (_, i) => String.fromCodePoint(i < 0xd800 ? i : i + 0x800));
  const tokenizer = await trainCharTokenizer(characters, { specialTokens: ["<|end|>"] });
  const { train } = await tokenizeDataset(dataset, tokenizer, { cacheDir: temporaryFolder() });
  const [text] = (await textsOf(dataset, "train")) as [string];
  const ids = await train.document(0);
  assert.equal(ids.at(-1), 68000);
  assert.equal(await tokenizer.decode(ids.slice(0, -1)), text);
});

test("tiny Shakespeare by characters: nanoGPT's vocabulary, stream and split", {
  skip: skipWithout(shakespeare),
}, async () => {
  const out = join(temporaryFolder(), "dataset");
  const dataset = await buildDataset({ from: [asset(shakespeare)], out, heldOut: 0.1, split: "tail" });
  const text = readFileSync(asset(shakespeare), "utf8");
  const tokenizer = await trainCharTokenizer([text]);
  assert.equal(tokenizer.vocabSize, 65);
  const { train, heldOut } = await tokenizeDataset(dataset, tokenizer);
  assert.deepEqual([train.tokenCount, heldOut.tokenCount], [1003854, 111540]); // as nanoGPT's prepare.py prints them
  assert.equal(await tokenizer.decode((await train.document(0)).subarray(0, 100)), text.slice(0, 100));
  const batch = await packedBatches(train, { batchSize: 12, context: 64, mode: "contiguous", seed: 1 }).next();
  assert.deepEqual([batch.tokens.shape, batch.tokenCount, batch.byteCount], [[12, 64], 768, 768]);
  const first = await tokenizer.decode([...(batch.tokens.data as Int32Array)].slice(0, 64));
  assert.ok(text.includes(first));
});

test("BPE trained on TypeScript compresses held-out TypeScript better than GPT-2's", {
  skip: skipWithout("tokenizers/gpt2/encoder.json"),
}, async () => {
  const out = join(temporaryFolder(), "dataset");
  const dataset = await buildDataset({ from: [join(packageRoot(), "src")], out, heldOut: 0.2 });
  const tokenizer = await trainBpe(await textsOf(dataset, "train"), { vocabSize: 4096 });
  const measure = (each: Tokenizer) => compression(each, [dataset], { split: "heldOut" });
  const own = await measure(tokenizer);
  const gpt2 = await measure(await Tokenizer.load(asset("tokenizers/gpt2/encoder.json")));
  assert.equal(own.bytes, dataset.manifest.splits.heldOut.bytes);
  assert.ok(gpt2.bytesPerToken > 2.5, `GPT-2's tokenizer is loaded rightly: ${gpt2.bytesPerToken}`);
  assert.ok(own.bytesPerToken > gpt2.bytesPerToken, `${own.bytesPerToken} against GPT-2's ${gpt2.bytesPerToken}`);
});

test("a SentencePiece-style tokenizer: the bytes of whole documents are exact", {
  skip: skipWithout("weights/stories260k-hf/tokenizer.json"),
}, async () => {
  const from = temporaryFolder();
  mkdirSync(join(from, "d"));
  const texts = [
    "Once upon a time there was a cat.",
    "日本 😀 and more words to make it longer than the context",
    "Lily",
  ];
  for (const [i, text] of texts.entries()) writeFileSync(join(from, "d", `${i}.txt`), text);
  const dataset = await buildDataset({ from: [from], out: join(temporaryFolder(), "x"), heldOut: 0 });
  const { train } = await tokenizeDataset(dataset, await Tokenizer.load(asset("weights/stories260k-hf")));
  let bytes = 0;
  for await (const batch of heldOutBatches(train, { batchSize: 2, context: 16 })) bytes += batch.byteCount;
  assert.equal(bytes, Buffer.byteLength(texts.join("")));
});
