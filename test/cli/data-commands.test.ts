import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Tokenizer } from "../../src/data/index.ts";
import { plinth } from "./run-main.ts";

const root = mkdtempSync(join(tmpdir(), "plinth-cli-data-"));
after(() => rmSync(root, { recursive: true, force: true }));

const notes = join(root, "notes");
mkdirSync(notes);
for (let i = 0; i < 30; i++) writeFileSync(join(notes, `${i}.md`), `# Note ${i}\n\nThe cat sat on mat number ${i}.\n`);
writeFileSync(join(notes, "x.bin"), Uint8Array.of(0, 1, 2));
const dataset = join(root, "dataset");

test("data build, data show and tokenizer train, for people and for machines", async () => {
  const built = await plinth(
    "data",
    "build",
    "--from",
    notes,
    "--licence",
    "CC0-1.0",
    "--held-out",
    "0.3",
    "--seed",
    "1",
    "--out",
    dataset,
  );
  assert.equal(built.code, 0, built.err);
  for (const words of [/train +\d+ +[\d,]+/, /heldOut +\d+/, /CC0-1\.0 +30/, /binary +1 +folder:x\.bin/])
    assert.match(built.out, words);

  const shown = await plinth("data", "show", dataset, "--samples", "2");
  assert.equal(shown.code, 0, shown.err);
  assert.match(shown.out, /--- folder:\d+\.md\n {4}CC0-1\.0, retrieved 20.*, sha256 [0-9a-f]{12}, unchanged\n# Note/);

  const json = await plinth("data", "show", dataset, "--json");
  const document = JSON.parse(json.out) as {
    hash: string;
    splits: { train: { documents: number }; heldOut: { documents: number } };
    filtered: object;
    samples: { text: string; licence: string }[];
  };
  assert.equal(document.splits.train.documents + document.splits.heldOut.documents, 30);
  assert.deepEqual(document.filtered, { binary: { count: 1, examples: ["folder:x.bin"] } });
  assert.equal(document.samples.length, 3);

  const tokenizer = join(root, "tokenizer");
  const compare = ["--compare", tokenizer];
  const first = await plinth("tokenizer", "train", "--data", dataset, "--vocab-size", "280", "--out", tokenizer);
  assert.equal(first.code, 0, first.err);
  assert.match(first.out, /280 tokens\ncompression on held-out text: \d\.\d{3} bytes per token/);
  const second = await plinth(
    "tokenizer",
    "train",
    "--data",
    dataset,
    "--vocab-size",
    "300",
    "--out",
    join(root, "t2"),
    ...compare,
    "--json",
  );
  const result = JSON.parse(second.out) as {
    vocabSize: number;
    compression: { bytesPerToken: number };
    compared: { bytesPerToken: number }[];
  };
  assert.equal(result.vocabSize, (await Tokenizer.load(join(root, "t2"))).vocabSize);
  assert.ok(result.compression.bytesPerToken > (result.compared[0]?.bytesPerToken ?? Number.POSITIVE_INFINITY));

  const train = ["tokenizer", "train", "--data", dataset, "--out"];
  for (const [type, size] of [
    ["bpe", 300],
    ["wordpiece", 150],
    ["unigram", 150],
  ] as const) {
    const out = join(root, type);
    const trained = await plinth(...train, out, "--vocab-size", `${size}`, "--type", type, "--lowercase", "--json");
    assert.equal(trained.code, 0, trained.err);
    const made = await Tokenizer.load(out);
    assert.equal(made.json.model.type?.toLowerCase(), type);
    assert.ok(made.vocabSize > 50 && made.vocabSize <= size);
    assert.deepEqual(await made.encode("NOTE"), await made.encode("note"));
  }
  const wrong = await plinth(...train, join(root, "none"), "--vocab-size", "300", "--character-coverage", "1");
  assert.match(
    wrong.err,
    /--character-coverage does not apply to --type bpe\. Fix: leave it out, or use --type unigram/,
  );
});

test("data build --json prints one document and nothing else on standard output", async () => {
  const { code, out } = await plinth(
    "data",
    "build",
    "--from",
    notes,
    "--out",
    join(root, "json"),
    "--json",
    "--min-bytes",
    "10",
  );
  assert.equal(code, 0);
  const document = JSON.parse(out) as { dir: string; sources: { from: string; kind: string }[]; licences: object };
  assert.equal(document.dir, join(root, "json"));
  assert.deepEqual(
    document.sources.map(({ from, kind }) => [from, kind]),
    [[notes, "folder"]],
  );
  assert.deepEqual(Object.keys(document.licences), ["NOASSERTION"]);
});

test("errors name the culprit and the fix, without a stack", async () => {
  const empty = await plinth(
    "data",
    "build",
    "--from",
    notes,
    "--allow-licence",
    "MIT, Apache-2.0",
    "--out",
    join(root, "none"),
  );
  assert.equal(empty.code, 1);
  assert.match(
    empty.err,
    /error: the dataset from .* is empty: filtered .*30 licence NOASSERTION \(e\.g\. folder:0\.md\)/,
  );
  assert.doesNotMatch(empty.err, /at .*\.js/);
  assert.match(
    (await plinth("data", "show", root)).err,
    /not a dataset \(no manifest\.json\)\. Fix: build one with plinth data build/,
  );
  assert.match((await plinth("data", "build", "--from", notes)).err, /--out is missing/);
  const small = await plinth("tokenizer", "train", "--data", dataset, "--vocab-size", "100", "--out", join(root, "t3"));
  assert.match(small.err, /--vocab-size: expected at least 259 \(256 bytes and 3 special tokens\), got 100/);
});

test("Ctrl-C while a dataset is built ends with 130, says what to do, and leaves no dataset", async () => {
  const out = join(root, "interrupted");
  const running = plinth("data", "build", "--from", notes, "--out", out);
  process.emit("SIGINT");
  const { code, err } = await running;
  assert.equal(code, 130);
  assert.match(err, /stopped before it was done; give the same command again to start over\n$/);
  assert.equal(existsSync(join(out, "manifest.json")), false);
});
