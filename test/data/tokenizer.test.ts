import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { Tokenizer, trainBpe, trainCharTokenizer } from "../../src/data/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { temporaryFolder } from "./support.ts";

const gpt2 = "tokenizers/gpt2/encoder.json";
const goldens = "tokenizers/golden/hf-tokenizer-golden.json";
const wagahai = "text/wagahai/wagahaiwa_nekodearu.txt";
const stories = "weights/stories260k-hf/tokenizer.json";
const gguf = "tokenizers/gguf-vocab/ggml-vocab-gpt-2.gguf";

const loadGpt2 = (() => {
  let loaded: Promise<Tokenizer> | undefined;
  return () => (loaded ??= Tokenizer.load(asset(gpt2)));
})();

test("GPT-2's vocabulary and merges give the ids and texts of transformers", {
  skip: skipWithout(gpt2, goldens),
}, async () => {
  const tokenizer = await loadGpt2();
  assert.equal(tokenizer.vocabSize, 50257);
  assert.equal(tokenizer.eosId, 50256);
  type Case = { text: string; ids: number[] };
  const cases = (JSON.parse(readFileSync(asset(goldens), "utf8")) as Record<string, Case[]>)[
    "openai-community/gpt2"
  ] as Case[];
  assert.ok(cases.length > 20);
  const encoded = await tokenizer.encodeBatch(cases.map(({ text }) => text));
  for (const [i, { text, ids }] of cases.entries()) {
    assert.deepEqual([...(encoded[i] as Int32Array)], ids, text);
    assert.equal(await tokenizer.decode(ids), text);
  }
});

test("GPT-2's ids on llama.cpp's test strings", { skip: skipWithout(gpt2, `${gguf}.inp`) }, async () => {
  const tokenizer = await loadGpt2();
  const inputs = readFileSync(asset(`${gguf}.inp`), "utf8").split("\n__ggml_vocab_test__\n");
  const outputs = readFileSync(asset(`${gguf}.out`), "utf8").split("\n");
  assert.ok(inputs.length > 40);
  for (const [i, input] of inputs.entries()) {
    const expected = (outputs[i] as string)
      .trim()
      .split(" ")
      .filter((id) => id !== "")
      .map(Number);
    assert.deepEqual([...(await tokenizer.encode(input))], expected, JSON.stringify(input));
  }
});

test("encoding word by word gives the ids of the whole text", {
  skip: skipWithout(gpt2, wagahai, "text/wikitext-2"),
}, async () => {
  const tokenizer = await loadGpt2();
  const read = (path: string, length: number) => readFileSync(asset(path), "utf8").slice(0, length);
  const texts = [
    read("text/wikitext-2/valid.txt", 200_000),
    read(wagahai, 50_000),
    readFileSync(join(packageRoot(), "package-lock.json"), "utf8").slice(0, 50_000),
    "'s 's's  ''s'll\n\n x \u0085\u00a0\u3000 é\u0301 ½²٣Ⅷ हिन्दी ꟎ \u{10ec5} 😀👩‍👩‍👧 \r\n\t'",
    "",
  ];
  const [words, whole] = [await tokenizer.encodeBatch(texts, { literal: true }), await tokenizer.encodeBatch(texts)];
  assert.deepEqual(words, whole);
  for (const [i, text] of texts.entries()) {
    assert.deepEqual(await tokenizer.encode(text, { literal: true }), whole[i]);
  }
  const overlapping = await Promise.all(texts.map((text) => tokenizer.encode(text, { literal: true })));
  assert.deepEqual(overlapping, whole);
});

test("bytes per id add up to the bytes of any text", { skip: skipWithout(gpt2) }, async () => {
  const tokenizer = await loadGpt2();
  for (const text of ["plain", "日本語 😀 ünï", "  \n\t", "\u0000\u007f"]) {
    const ids = await tokenizer.encode(text);
    assert.equal(
      ids.reduce((sum, id) => sum + (tokenizer.tokenBytes[id] as number), 0),
      Buffer.byteLength(text),
    );
  }
  assert.equal(tokenizer.tokenBytes[50256], 0);
});

test("a Llama tokenizer: BOS on request, published ids and text", { skip: skipWithout(stories) }, async () => {
  const tokenizer = await Tokenizer.load(asset("weights/stories260k-hf"));
  const golden = JSON.parse(readFileSync(asset("weights/stories260K/golden.json"), "utf8")) as {
    greedy_text_published: string;
    greedy_ids_with_bos: number[];
  };
  assert.deepEqual([tokenizer.vocabSize, tokenizer.bosId, tokenizer.eosId], [512, 1, 2]);
  const ids = await tokenizer.encode("Once upon a time", { addSpecialTokens: true });
  assert.deepEqual([...ids], golden.greedy_ids_with_bos.slice(0, ids.length));
  assert.deepEqual([...(await tokenizer.encode("Once upon a time"))], [...ids.subarray(1)]);
  const text = await tokenizer.decode(golden.greedy_ids_with_bos, { skipSpecialTokens: true });
  assert.ok(text.startsWith(golden.greedy_text_published.trim().slice(0, 150)));
});

test("streamed pieces join to the decoded text, and are whole characters", {
  skip: skipWithout(gpt2, stories),
}, async () => {
  const texts = ["Hello 😀😀 wörld 日本語\n\n  x", "👩‍👩‍👧‍👦 ends with half: é", " leading", "\uFFFD real \uFFFD", ""];
  for (const path of [gpt2, stories]) {
    const tokenizer = path === gpt2 ? await loadGpt2() : await Tokenizer.load(asset(path));
    for (const text of texts) {
      const ids = [...(await tokenizer.encode(text))];
      const stream = tokenizer.streamDecoder();
      const pieces: string[] = [];
      for (const id of ids) pieces.push(await stream.push(id));
      pieces.push(await stream.flush());
      assert.equal(pieces.join(""), await tokenizer.decode(ids, { skipSpecialTokens: true }), `${path}: ${text}`);
      for (const piece of pieces) assert.doesNotMatch(piece, /\p{Surrogate}/u);
      if (!text.includes("\uFFFD")) assert.ok(!pieces.join("").includes("\uFFFD"));
    }
  }
});

test("a stream after a prompt keeps its leading space, and a cut character waits", {
  skip: skipWithout(gpt2, stories),
}, async () => {
  const llama = await Tokenizer.load(asset(stories));
  const [prompt, both] = await llama.encodeBatch(["Once upon", "Once upon a time"], { addSpecialTokens: true });
  const next = [...(both as Int32Array).subarray((prompt as Int32Array).length)];
  const stream = llama.streamDecoder({ prefix: prompt as Int32Array });
  assert.equal((await Promise.all([stream.push(...next)])).join("") + (await stream.flush()), " a time");

  const byteLevel = await loadGpt2();
  const ids = [...(await byteLevel.encode("a😀b"))];
  const cut = byteLevel.streamDecoder();
  const pieces = [];
  for (const id of ids) pieces.push(await cut.push(id));
  assert.deepEqual(
    pieces.filter((piece) => piece !== ""),
    ["a", "😀", "b"],
  );
  const half = byteLevel.streamDecoder();
  assert.equal((await half.push(...ids.slice(0, 2))) + (await half.flush()), "a\uFFFD");
});

test("bytes that never become text do not hold the stream up for ever", { skip: skipWithout(gpt2) }, async () => {
  const tokenizer = await loadGpt2();
  const lone = tokenizer.tokenToId("ð") as number; // byte F0, the start of a character of four bytes
  const stream = tokenizer.streamDecoder();
  let text = "";
  for (let i = 0; i < 100; i++) text += await stream.push(lone);
  assert.ok(text.length > 80);
  text += await stream.flush();
  assert.equal(text, "\uFFFD".repeat(100));
});

test("special tokens are skipped by a stream and kept by decode", async () => {
  const tokenizer = await trainBpe(["a b"], { vocabSize: 259 });
  const ids = await tokenizer.encode("a<|im_end|>b");
  const stream = tokenizer.streamDecoder();
  assert.equal((await stream.push(...ids)) + (await stream.flush()), "ab");
  assert.equal(await tokenizer.decode(ids), "a<|im_end|>b");
});

test("ids that are not in the vocabulary are named", async () => {
  const tokenizer = await trainBpe(["a b"], { vocabSize: 259 });
  for (const id of [-1, 300, 1.5, Number.NaN]) {
    await assert.rejects(tokenizer.decode([65, id]), {
      name: "PlinthError",
      message: `token id ${id} at position 1 is not in the vocabulary of ${tokenizer.vocabSize} tokens. Fix: use the tokenizer that the model was trained with.`,
    });
  }
  assert.equal(tokenizer.idToToken(300), undefined);
  assert.equal(tokenizer.tokenToId("nothing"), undefined);
});

const neox = "tokenizers/gpt-neox/20B_tokenizer.json";

test("a tokenizer.json from elsewhere: added tokens that are text stay, special ones are forged by nobody", {
  skip: skipWithout(neox),
}, async () => {
  const tokenizer = await Tokenizer.load(asset(neox));
  assert.deepEqual([tokenizer.vocabSize, tokenizer.eosId, tokenizer.tokenToId("<|padding|>")], [50277, 0, 1]);
  const text = "def f():\n        return 'x'  # <|endoftext|>";
  const ids = await tokenizer.encode(text);
  assert.ok(ids.includes(0) && ids.includes(tokenizer.tokenToId("        ") as number));
  const literal = await tokenizer.encode(text, { literal: true });
  assert.ok(!literal.includes(0) && literal.includes(tokenizer.tokenToId("        ") as number));
  assert.equal(await tokenizer.decode(literal), text);
  assert.equal(
    literal.reduce((sum, id) => sum + (tokenizer.tokenBytes[id] as number), 0),
    text.length,
  );
});

test("saved and loaded again it is the same tokenizer; chat_template.jinja wins", async () => {
  const folder = temporaryFolder();
  const tokenizer = await trainBpe(["some words, some more words"], { vocabSize: 300 });
  await tokenizer.save(folder);
  const loaded = await Tokenizer.load(folder);
  assert.equal(loaded.hash, tokenizer.hash);
  assert.deepEqual(loaded.specialTokens, tokenizer.specialTokens);
  assert.equal((await Tokenizer.load(join(folder, "tokenizer.json"))).hash, tokenizer.hash);
  writeFileSync(join(folder, "chat_template.jinja"), "J{{ messages[0].content }}");
  assert.equal((await (await Tokenizer.load(folder)).applyChatTemplate([{ role: "user", content: "x" }])).text, "Jx");
});

test("truncation and padding written in the file are not applied", async () => {
  const { json } = await trainBpe(["a b"], { vocabSize: 259 });
  const truncation = { direction: "Right", max_length: 2, strategy: "LongestFirst", stride: 0 };
  assert.equal((await Tokenizer.fromJson({ ...json, truncation }).encode("abcdef")).length, 6);
});

test("a character tokenizer: one id per character, in code point order; unknown characters are errors", async () => {
  const tokenizer = await trainCharTokenizer(["hello\n", "日本 😀"]);
  assert.deepEqual([...(await tokenizer.encode("he\n😀"))], [3, 2, 0, 8]);
  assert.equal(tokenizer.vocabSize, 9);
  assert.equal(await tokenizer.decode([3, 2, 4, 4, 5, 1, 6]), "hello 日");
  assert.deepEqual([tokenizer.tokenBytes[6], tokenizer.tokenBytes[8], tokenizer.eosId], [3, 4, undefined]);
  await assert.rejects(tokenizer.encode("help"), {
    name: "PlinthError",
    message: /the character "p" is not in the vocabulary of 9 characters/,
  });
  const withEnd = await trainCharTokenizer(["ab"], { specialTokens: ["<|endoftext|>"] });
  assert.deepEqual([...(await withEnd.encode("ab<|endoftext|>"))], [0, 1, 2]);
  await assert.rejects(withEnd.encode("abc<|endoftext|>"), /the character "c"/);
});

test("missing and damaged files are named", async () => {
  const folder = temporaryFolder();
  await assert.rejects(Tokenizer.load(join(folder, "absent")), /absent: no such file or folder/);
  await assert.rejects(Tokenizer.load(folder), /no tokenizer\.json\. Fix:/);
  writeFileSync(join(folder, "tokenizer.model"), "");
  await assert.rejects(Tokenizer.load(folder), /tokenizer\.model: not a SentencePiece model \(no pieces\)/);
  writeFileSync(join(folder, "tokenizer.json"), '{"model":');
  await assert.rejects(Tokenizer.load(folder), /tokenizer\.json: not valid JSON/);
  writeFileSync(join(folder, "tokenizer.json"), '{"version":"1.0"}');
  await assert.rejects(Tokenizer.load(folder), /tokenizer\.json: not a tokenizer\.json \(no model\.vocab\)/);
  writeFileSync(join(folder, "tokenizer.json"), '{"version":"1.0","model":{"type":"Nonsense","vocab":{}}}');
  await assert.rejects(Tokenizer.load(folder), /not a tokenizer that the tokenizers library reads/);
  const halves = join(folder, "halves");
  mkdirSync(halves);
  writeFileSync(join(halves, "vocab.json"), '{"a":0,"model":1}');
  await assert.rejects(Tokenizer.load(halves), /vocab\.json: a vocabulary without its merges/);
});

test("vocab.json with merges.txt loads like encoder.json with vocab.bpe", { skip: skipWithout(gpt2) }, async () => {
  const folder = temporaryFolder();
  copyFileSync(asset(gpt2), join(folder, "vocab.json"));
  copyFileSync(asset("tokenizers/gpt2/vocab.bpe"), join(folder, "merges.txt"));
  assert.equal((await Tokenizer.load(folder)).hash, (await loadGpt2()).hash);
});
