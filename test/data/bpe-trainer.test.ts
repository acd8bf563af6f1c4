import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot, sha256 } from "../../src/base/index.ts";
import { type Tokenizer, trainBpe } from "../../src/data/index.ts";
import { asset, skipWithout } from "../assets.ts";

interface Golden {
  specialTokens: string[];
  probes: string[];
  tinyShakespeare: { vocabSize: number; merges: number; sha256: string };
  cases: {
    corpus: string;
    texts: string[];
    vocabSize: number;
    learnt: string[];
    merges: [string, string][];
    probes: number[][];
  }[];
}

const golden = JSON.parse(readFileSync(join(packageRoot(), "test/golden/bpe_golden.json"), "utf8")) as Golden;

for (const example of golden.cases) {
  test(`trainBpe gives the vocabulary of Hugging Face's trainer: ${example.corpus}, ${example.vocabSize}`, async () => {
    const tokenizer = await trainBpe(example.texts, {
      vocabSize: example.vocabSize,
      specialTokens: golden.specialTokens,
    });
    const first = 256 + golden.specialTokens.length;
    const learnt = Array.from({ length: tokenizer.vocabSize - first }, (_, i) => tokenizer.idToToken(first + i));
    assert.deepEqual(learnt, example.learnt);
    assert.deepEqual(tokenizer.json.model.merges, example.merges);
    const probes = await tokenizer.encodeBatch(golden.probes);
    assert.deepEqual(
      probes.map((ids) => [...ids]),
      example.probes,
    );
  });
}

const shakespeare = "text/tinyshakespeare/input.txt";

test("the same merges as Hugging Face's trainer on a megabyte of real text", {
  skip: skipWithout(shakespeare),
}, async () => {
  const { vocabSize, merges, sha256: expected } = golden.tinyShakespeare;
  const tokenizer = await trainBpe([readFileSync(asset(shakespeare), "utf8")], {
    vocabSize,
    specialTokens: golden.specialTokens,
  });
  const learnt = tokenizer.json.model.merges as [string, string][];
  assert.equal(learnt.length, merges);
  assert.equal(sha256(learnt.map((pair) => pair.join(" ")).join("\n")), expected);
});

test("any text survives encoding and decoding, whatever the training text", async () => {
  const tokenizer = await trainBpe(["only these words"], { vocabSize: 270 });
  const texts = ["日本語 😀\u0000\uFFFD", " \n\t ", "", "only these words", "é\u0301<|im_start|>"];
  for (const text of texts) {
    assert.equal(await tokenizer.decode(await tokenizer.encode(text)), text);
    assert.equal(await tokenizer.decode(await tokenizer.encode(text, { literal: true })), text);
  }
});

test("special tokens come first, and literal encoding never makes one", async () => {
  const tokenizer = await trainBpe(["a b c"], { vocabSize: 259 });
  assert.deepEqual([...(await tokenizer.encode("<|endoftext|><|im_end|>"))], [0, 2]);
  const literal = await tokenizer.encode("<|endoftext|><|im_end|>", { literal: true });
  assert.ok(literal.length > 2 && literal.every((id) => id > 2));
  assert.equal(tokenizer.eosId, 0);
});

test("training does not depend on the order of texts nor on how often it is run", async () => {
  const texts = golden.cases.flatMap((example) => example.texts);
  const train = (order: string[]): Promise<Tokenizer> => trainBpe(order, { vocabSize: 400 });
  const [a, b, c] = await Promise.all([train(texts), train(texts.toReversed()), train(texts)]);
  assert.equal(a.hash, b.hash);
  assert.equal(a.hash, c.hash);
});

test("a text with few pairs gives a smaller vocabulary", async () => {
  const tokenizer = await trainBpe(["ab ab"], { vocabSize: 1000, specialTokens: ["<|endoftext|>"] });
  assert.equal(tokenizer.vocabSize, 259); // "ab" and " ab"
});

test("trainBpe refuses a vocabulary that cannot hold the bytes, and no text", async () => {
  await assert.rejects(trainBpe(["x"], { vocabSize: 200 }), {
    name: "PlinthError",
    message: "--vocab-size: expected at least 259 (256 bytes and 3 special tokens), got 200. Fix: use 259 or more.",
  });
  await assert.rejects(trainBpe([], { vocabSize: 300 }), /no text to train the tokenizer on/);
});

test("training stops when aborted", async () => {
  await assert.rejects(trainBpe(["some text"], { vocabSize: 300, signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
});
