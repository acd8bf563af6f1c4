import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  buildDataset,
  encodeForInfilling,
  infillingTokens,
  requiredInfillingTokens,
  type Tokenizer,
  tokenizeDataset,
  trainBpe,
} from "../../src/data/index.ts";
import { temporaryFolder } from "./support.ts";

const specials = ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"];
const texts = Array.from({ length: 400 }, (_, i) => `function f${i}(x) {\n  return x * ${i} + "é😀";\n}\n`);
const trained = trainBpe(texts, { vocabSize: 330, specialTokens: specials });

type Form = "plain" | "psm" | "spm";

/** What a document was made of: its text put together again, its form, and where it was cut. */
async function takeApart(ids: Int32Array, tokenizer: Tokenizer): Promise<{ text: string; form: Form; ends: boolean }> {
  const { prefix, middle, suffix } = requiredInfillingTokens(tokenizer);
  const ends = ids.at(-1) === tokenizer.eosId;
  const body = ends ? ids.slice(0, -1) : ids;
  const read = (from: number, to: number) => tokenizer.decode(body.slice(from, to));
  if (body[0] !== prefix) return { text: await read(0, body.length), form: "plain", ends };
  const atSuffix = body.indexOf(suffix);
  const atMiddle = body.indexOf(middle);
  assert.ok(atSuffix > 0 && atMiddle > atSuffix);
  assert.equal(body.filter((id) => id === prefix || id === middle || id === suffix).length, 3);
  const [head, tail, last] = [
    await read(1, atSuffix),
    await read(atSuffix + 1, atMiddle),
    await read(atMiddle + 1, body.length),
  ];
  return atSuffix === 1 ? { text: last + tail, form: "spm", ends } : { text: head + last + tail, form: "psm", ends };
}

test("every document can be put together again; half are rearranged, half of these with the suffix first", async () => {
  const tokenizer = await trained;
  const documents = await encodeForInfilling(texts, tokenizer, { rate: 0.5 });
  const forms: Record<Form, number> = { plain: 0, psm: 0, spm: 0 };
  for (const [i, { ids, bytes }] of documents.entries()) {
    const { text, form, ends } = await takeApart(ids, tokenizer);
    assert.equal(text, texts[i]);
    assert.equal(bytes, Buffer.byteLength(text));
    assert.ok(ends);
    forms[form]++;
  }
  // binomial: 200 +- 4 standard deviations of 10, 100 +- 4 of 8.7
  assert.ok(Math.abs(forms.plain - 200) < 40, JSON.stringify(forms));
  assert.ok(Math.abs(forms.psm - 100) < 35 && Math.abs(forms.spm - 100) < 35, JSON.stringify(forms));
  for (const [rate, count] of [
    [0, 0],
    [1, 400],
  ] as const) {
    const { prefix } = requiredInfillingTokens(tokenizer);
    const all = await encodeForInfilling(texts, tokenizer, { rate });
    assert.equal(all.filter(({ ids }) => ids[0] === prefix).length, count);
  }
});

test("cuts are uniform over the characters", async () => {
  const tokenizer = await trained;
  const text = "ab".repeat(50);
  const variants = Array.from({ length: 600 }, (_, seed) => encodeForInfilling([text], tokenizer, { rate: 1, seed }));
  const { suffix, middle } = requiredInfillingTokens(tokenizer);
  const middles = (await Promise.all(variants)).flatMap(([document]) => {
    const ids = document?.ids ?? new Int32Array();
    return ids[1] === suffix ? [] : [tokenizer.decode(ids.slice(ids.indexOf(middle) + 1, -1))];
  });
  const lengths = (await Promise.all(middles)).map(({ length }) => length);
  // the distance of two uniform points is a third of the whole on average, with a deviation of 0.236
  const mean = lengths.reduce((sum, length) => sum + length, 0) / lengths.length / text.length;
  assert.ok(Math.abs(mean - 1 / 3) < (4 * 0.236) / Math.sqrt(lengths.length), `${mean}`);
});

test("what becomes of a document depends on the seed and its text alone", async () => {
  const tokenizer = await trained;
  const all = await encodeForInfilling(texts, tokenizer, { rate: 0.5, seed: 3 });
  const alone = await encodeForInfilling([texts[7] as string], tokenizer, { rate: 0.5, seed: 3 });
  assert.deepEqual(alone[0], all[7]);
  const other = await encodeForInfilling(texts, tokenizer, { rate: 0.5, seed: 4 });
  assert.notDeepEqual(other, all);
});

test("pieces fit, and only what ends a text or joins its suffix says so", async () => {
  const tokenizer = await trained;
  const long = `${texts.slice(0, 60).join("")}${"x".repeat(900)}\n`;
  const size = 48;
  const documents = await encodeForInfilling([long], tokenizer, { rate: 0.5, pieces: size, seed: 1 });
  assert.ok(documents.length > 20);
  let joined = "";
  for (const [i, { ids }] of documents.entries()) {
    assert.ok(ids.length <= size + 10, `${ids.length}`);
    const { text, form, ends } = await takeApart(ids, tokenizer);
    assert.equal(ends, form !== "plain" || i === documents.length - 1);
    joined += text;
  }
  assert.equal(joined, long);
});

test("a dataset's training documents are rearranged, those held out are not", async () => {
  const tokenizer = await trained;
  const from = temporaryFolder();
  mkdirSync(from, { recursive: true });
  for (const [i, text] of texts.slice(0, 60).entries()) writeFileSync(join(from, `${i}.txt`), text);
  const dataset = await buildDataset({ from: [from], out: join(temporaryFolder(), "dataset"), heldOut: 0.3 });
  const plain = await tokenizeDataset(dataset, tokenizer);
  const filled = await tokenizeDataset(dataset, tokenizer, { infilling: { rate: 0.5 } });
  assert.notEqual(filled.train.hash, plain.train.hash);
  assert.equal(filled.train.byteCount, plain.train.byteCount);
  const { prefix } = requiredInfillingTokens(tokenizer);
  const count = async ({ train, heldOut }: typeof plain) => {
    const starts = async (documents: typeof train) => {
      let found = 0;
      for (let i = 0; i < documents.count; i++) if ((await documents.document(i))[0] === prefix) found++;
      return found;
    };
    return [await starts(train), await starts(heldOut)];
  };
  assert.deepEqual(await count(plain), [0, 0]);
  const [train = 0, heldOut] = await count(filled);
  assert.ok(train > 5 && train < filled.train.count - 5);
  assert.equal(heldOut, 0);
});

test("missing tokens and wrong rates are named", async () => {
  const bare = await trainBpe(["abc abc"], { vocabSize: 262, specialTokens: ["<|endoftext|>", "<fim_prefix>"] });
  assert.equal(infillingTokens(bare), undefined);
  await assert.rejects(encodeForInfilling(["abc"], bare, { rate: 0.5 }), {
    name: "PlinthError",
    message: /the tokenizer has no <fim_middle>, <fim_suffix>\. Fix: train one that has: plinth tokenizer train/,
  });
  const tokenizer = await trained;
  await assert.rejects(encodeForInfilling(["abc"], tokenizer, { rate: 1.5 }), {
    name: "PlinthError",
    message: /--fim-rate.*1\.5/,
  });
  await assert.rejects(encodeForInfilling(["abc"], tokenizer, { rate: 1, pieces: 3 }), {
    name: "PlinthError",
    message: /3 tokens are too short/,
  });
  const santa = await trainBpe(["abc"], {
    vocabSize: 262,
    specialTokens: ["<fim-prefix>", "<fim-middle>", "<fim-suffix>"],
  });
  assert.deepEqual(infillingTokens(santa), { prefix: 0, middle: 1, suffix: 2 });
});
