import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { Tokenizer, trainBpe, trainUnigram, trainWordPiece } from "../../src/data/index.ts";
import { Lattices, PieceTrie } from "../../src/data/unigram-lattice.ts";
import { seedPieces } from "../../src/data/unigram-seeds.ts";
import { asset, skipWithout } from "../assets.ts";
import { temporaryFolder } from "./support.ts";

const shakespeare = "text/tinyshakespeare/input.txt";
const texts = [
  "The quick brown fox jumps over the lazy dog. The dog didn't mind; the fox's jump was quick, quick, quick.\n".repeat(
    3,
  ),
  "In the beginning was the word, and the word was 'the'.  Two  spaces,\n\n\tand tabs\t\there.   The dog, the fox.",
  "Größe, naïve café: “quotes” … 日本語のテキスト、日本語。 12345 67 890 12345 x1 x2 x3 don't don't",
];
const probes = [
  ...texts,
  "",
  " ",
  "unseen words dogfox",
  "[MASK] <pad> </s> 日本 😀 \u00a0 ﬁne CAFÉ",
  "  leading\n\nlines \n",
];
const trainers = {
  wordpiece: (vocabSize: number) => trainWordPiece(texts, { vocabSize }),
  "wordpiece, cased": (vocabSize: number) => trainWordPiece(texts, { vocabSize, lowercase: false }),
  unigram: (vocabSize: number) => trainUnigram(texts, { vocabSize, characterCoverage: 1 }),
  "unigram, whitespace kept": (vocabSize: number) =>
    trainUnigram(texts, { vocabSize, characterCoverage: 1, normalize: false }),
  "unigram, lowercased": (vocabSize: number) => trainUnigram(texts, { vocabSize, lowercase: true }),
};

for (const [name, train] of Object.entries(trainers)) {
  test(`${name}: the same vocabulary every time, of the size asked or less`, async () => {
    const [a, b] = [await train(120), await train(120)];
    assert.equal(a.hash, b.hash);
    assert.equal(a.vocabSize, 120);
    const most = await train(100_000);
    assert.ok(most.vocabSize > 120 && most.vocabSize < 2000);
    const first = Object.values(a.specialTokens);
    assert.deepEqual(first, Object.values(most.specialTokens));
    await assert.rejects(
      train(20),
      /^PlinthError: --vocab-size: expected at least \d+ \(\d special tokens and \d+ char/,
    );
  });
}

test("text comes back from a unigram that keeps white space, and from any but for white space and compatibility", async () => {
  const known = texts.join("").slice(0, 300);
  const kept = await trainers["unigram, whitespace kept"](150);
  assert.equal(await kept.decode(await kept.encode(known)), known);
  const other = await trainers.unigram(150);
  assert.equal(await other.decode(await other.encode(known)), known.split(/\s+/).join(" ").trimEnd());
  const pieces = await trainers["wordpiece, cased"](150);
  const words = "The dog, the fox";
  assert.equal(await pieces.decode(await pieces.encode(words)), words);
});

test("pieces keep letters and other characters apart, unless asked", async () => {
  const pieces = (t: Tokenizer) => (t.json.model.vocab as [string, number][]).slice(3).map(([piece]) => piece);
  const mixed = (piece: string) => /\p{L}/u.test(piece) && /[^\p{L}\p{M}▁]/u.test(piece);
  assert.deepEqual(pieces(await trainers.unigram(200)).filter(mixed), []);
  const free = await trainUnigram(texts, { vocabSize: 200, splitByScript: false, characterCoverage: 1 });
  assert.ok(pieces(free).some(mixed));
});

test("a lowercased BPE has the merges of the text in lower case, and reads any case alike", async () => {
  const lowered = texts.map((text) => text.toLowerCase());
  const made = await trainBpe(texts, { vocabSize: 300, lowercase: true });
  const same = await trainBpe(lowered, { vocabSize: 300 });
  assert.deepEqual(made.json.model, same.json.model);
  const shouted = "THE DOG DIDN'T MIND";
  assert.deepEqual(await made.encode(shouted), await same.encode(shouted.toLowerCase()));
  assert.equal(await made.decode(await made.encode(shouted)), shouted.toLowerCase());
});

test("rare characters are left out where asked, and unknown", async () => {
  const word = await trainWordPiece(texts, { vocabSize: 100, alphabetSize: 20 });
  assert.deepEqual([...(await word.encode("日本 the"))].slice(0, 1), [word.tokenToId("[UNK]")]);
  const unigram = await trainUnigram(texts, { vocabSize: 100, characterCoverage: 0.9 });
  assert.ok([...(await unigram.encode("日"))].includes(unigram.tokenToId("<unk>") as number));
});

test("special tokens: those of the model by default, at its beginning, around pairs; the unknown one is needed", async () => {
  const word = await trainers.wordpiece(120);
  assert.deepEqual(
    [...word.specialTokens],
    [
      ["[PAD]", 0],
      ["[UNK]", 1],
      ["[CLS]", 2],
      ["[SEP]", 3],
      ["[MASK]", 4],
    ],
  );
  assert.equal(word.padId, 0);
  const { ids, typeIds } = await word.encodePair("the dog", "the fox");
  assert.deepEqual([ids[0], ids.at(-1), typeIds[0], typeIds.at(-1)], [2, 3, 0, 1]);
  const names = ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"];
  const unigram = await trainUnigram(texts, { vocabSize: 120, specialTokens: names });
  assert.deepEqual([...unigram.specialTokens.keys()], names);
  assert.equal(unigram.eosId, 1);
  const marked = [...(await unigram.encode("the <extra_id_1> dog", { addSpecialTokens: true }))];
  assert.ok(marked.includes(4) && marked.at(-1) === 1);
  await assert.rejects(
    trainWordPiece(texts, { vocabSize: 99, specialTokens: ["[PAD]"] }),
    /needs the special token \[UNK\]/,
  );
  await assert.rejects(
    trainUnigram(texts, { vocabSize: 99, specialTokens: ["</s>"] }),
    /needs the special token <unk>/,
  );
  for (const none of [[], ["", "  \n"]]) {
    await assert.rejects(trainWordPiece(none, { vocabSize: 99 }), /no text to train the tokenizer on/);
    await assert.rejects(trainUnigram(none, { vocabSize: 99 }), /no text to train the tokenizer on/);
  }
});

const python = process.env["PLINTH_PYTHON"];
test("the Python library reads what is saved and encodes the same", {
  skip: python === undefined && "set PLINTH_PYTHON to a Python with the tokenizers library",
}, async () => {
  const tokenizers: Tokenizer[] = [];
  const files: string[] = [];
  for (const train of Object.values(trainers)) {
    const folder = temporaryFolder();
    await (await train(160)).save(folder);
    tokenizers.push(await Tokenizer.load(folder));
    files.push(join(folder, "tokenizer.json"));
  }
  const script = join(packageRoot(), "test/golden/check_tokenizer.py");
  const output = await new Promise<string>((resolve, reject) => {
    const child = execFile(python as string, [script, ...files], (error, out) =>
      error ? reject(error) : resolve(out),
    );
    child.stdin?.end(JSON.stringify(probes));
  });
  const results = JSON.parse(output) as { ids: number[][]; special: number[][]; decoded: string[] }[];
  for (const [i, tokenizer] of tokenizers.entries()) {
    const plain = async (addSpecialTokens: boolean) =>
      (await tokenizer.encodeBatch(probes, { addSpecialTokens })).map((ids) => [...ids]);
    const ids = await plain(false);
    const decoded = await Promise.all(ids.map((each) => tokenizer.decode(each, { skipSpecialTokens: true })));
    assert.deepEqual({ ids, special: await plain(true), decoded }, results[i]);
  }
});

suite("as good as the reference trainers on a megabyte of real text", { skip: skipWithout(shakespeare) }, () => {
  interface Golden {
    vocabSize: number;
    wordPiece: { tokens: number };
    sentencePiece: { tokens: number; nats: number };
  }
  const golden = JSON.parse(readFileSync(join(packageRoot(), "test/golden/trainer_golden.json"), "utf8")) as Golden;
  const { vocabSize } = golden;
  const text = () => readFileSync(asset(shakespeare), "utf8");
  const nats = (t: Tokenizer, ids: Int32Array) => {
    const vocab = t.json.model.vocab as [string, number][];
    return -ids.reduce((sum, id) => sum + (vocab[id]?.[1] as number), 0);
  };

  test("word pieces: tokens within 0.1 % of Hugging Face's", async () => {
    const tokenizer = await trainWordPiece([text()], { vocabSize });
    const { length } = await tokenizer.encode(text());
    assert.ok(Math.abs(length / golden.wordPiece.tokens - 1) < 0.001, `${length} ${golden.wordPiece.tokens}`);
  });

  test("unigram: tokens within 1.5 % of SentencePiece's, likelihood no lower", async () => {
    const tokenizer = await trainUnigram([text()], { vocabSize, characterCoverage: 1 });
    const ids = await tokenizer.encode(text());
    const { tokens, nats: expected } = golden.sentencePiece;
    assert.ok(Math.abs(ids.length / tokens - 1) < 0.015, `${ids.length} ${tokens}`);
    assert.ok(nats(tokenizer, ids) < 1.005 * expected, `${nats(tokenizer, ids)} ${expected}`);
  });
});

/** Words as symbols, each with a count. */
function wordText(words: readonly (readonly [word: string, count: number])[]) {
  const symbols = words.flatMap(([word]) => [...[...word].map((c) => c.charCodeAt(0) - 96), 0]);
  const counts = words.flatMap(([word, count]) => [...[...word].map(() => count), 0]);
  return { symbols: Int32Array.from(symbols), counts: Float64Array.from(counts) };
}
const words = [
  ["banana", 3],
  ["bandana", 2],
  ["an", 5],
  ["nabbed", 1],
  ["ana", 1],
  ["zzzzzzzz", 1],
  ["quux", 2],
] as const;

test("seed pieces are the substrings that no longer one is as frequent as; their counts are right", () => {
  for (const maxLength of [2, 3, 5, 16]) {
    const text = wordText(words);
    const { starts, lengths, counts } = seedPieces(text, { maxLength, most: 1e6, isAllowed: () => true });
    const spell = (start: number, length: number) =>
      [...text.symbols.subarray(start, start + length)].map((s) => String.fromCharCode(s + 96)).join("");
    const found = new Map([...starts].map((start, i) => [spell(start, lengths[i] as number), counts[i]]));
    assert.equal(found.size, starts.length);
    const count = new Map<string, number>();
    for (const [word, n] of words) {
      for (let a = 0; a < word.length; a++)
        for (let b = a + 1; b <= word.length; b++) count.set(word.slice(a, b), (count.get(word.slice(a, b)) ?? 0) + n);
    }
    for (const [piece, n] of found) assert.equal(n, count.get(piece), piece);
    // Any substring that is frequent is there itself, or a longer one to its right is exactly as frequent.
    for (const [piece, n] of count) {
      if (piece.length < 2 || piece.length > maxLength || n < 2 || found.has(piece)) continue;
      assert.ok(
        [...count].some(([other, m]) => m === n && other.length > piece.length && other.startsWith(piece)),
        piece,
      );
    }
    const some = seedPieces(text, { maxLength, most: 3, isAllowed: () => true });
    const scores = [...counts].map((n, i) => n * (lengths[i] as number)).sort((a, b) => b - a);
    assert.deepEqual(
      [...some.counts].map((n, i) => n * (some.lengths[i] as number)).sort((a, b) => b - a),
      scores.slice(0, 3),
    );
  }
});

test("expected counts and likelihood are those of all splittings; the best path is the likeliest", () => {
  const text = wordText(words);
  const trie = new PieceTrie();
  const pieces = [..."abdequxnz", "an", "ana", "na", "ban", "nan", "dana", "zz", "zzz", "qu", "uux"];
  for (const [i, piece] of pieces.entries()) trie.add(wordText([[piece, 1]]).symbols.subarray(0, -1), i);
  const scores = Float64Array.from(pieces, (_, i) => -1 - ((i * 7) % 5) / 2);
  const lattices = new Lattices(text, trie);
  const splittings = (word: string): number[][] =>
    word === ""
      ? [[]]
      : pieces.flatMap((piece, i) =>
          word.startsWith(piece) ? splittings(word.slice(piece.length)).map((rest) => [i, ...rest]) : [],
        );
  const score = (path: readonly number[]) => path.reduce((sum, i) => sum + (scores[i] as number), 0);
  const check = (except: number) => {
    const expected = new Float64Array(pieces.length);
    let likelihood = 0;
    for (const [w, [word, count]] of words.entries()) {
      const all = splittings(word).filter((path) => !path.includes(except));
      const total = all.reduce((sum, path) => sum + Math.exp(score(path)), 0);
      likelihood += count * Math.log(total);
      for (const path of all)
        for (const i of path) expected[i] = (expected[i] as number) + (count * Math.exp(score(path))) / total;
      const best = Math.max(...all.map(score));
      assert.ok(Math.abs(score(lattices.bestPath(w, scores, except)) - best) < 1e-12, word);
    }
    const found = new Float64Array(pieces.length);
    assert.ok(Math.abs(lattices.expect(scores, found) - likelihood) < 1e-9);
    for (const [i, piece] of pieces.entries())
      assert.ok(Math.abs((found[i] as number) - (expected[i] as number)) < 1e-9, piece);
  };
  check(-1);
  lattices.keep((piece) => piece !== 10);
  check(10);
});
