import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import {
  type BuildOptions,
  buildDataset,
  type Dataset,
  type Document,
  openDataset,
  type Split,
} from "../../src/data/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { temporaryFolder } from "./support.ts";

/** Writes files into a new folder. */
function folder(files: Readonly<Record<string, string | Uint8Array>>): string {
  const root = temporaryFolder();
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
  return root;
}

function build(from: string | readonly string[], options: Partial<BuildOptions> = {}): Promise<Dataset> {
  return buildDataset({ from: [from].flat(), out: join(temporaryFolder(), "out"), heldOut: 0, ...options });
}

async function documents(dataset: Dataset, split: Split = "train"): Promise<Document[]> {
  const all: Document[] = [];
  for await (const document of dataset.documents(split)) all.push(document);
  return all;
}

async function texts(dataset: Dataset, split?: Split): Promise<string[]> {
  return (await documents(dataset, split)).map(({ text }) => text);
}

function filtered(dataset: Dataset): Record<string, number> {
  return Object.fromEntries(Object.entries(dataset.manifest.filtered).map(([reason, { count }]) => [reason, count]));
}

test("a folder: text with provenance; binary, invalid and empty files are counted by name", async () => {
  const root = folder({
    "a.md": "\uFEFF# One\r\ntwo\r\n",
    "src/b.ts": "export const b = 1;\n",
    "image.png": Uint8Array.of(0x89, 0x50, 0, 1),
    "latin1.txt": Uint8Array.of(0x63, 0x61, 0x66, 0xe9),
    "empty.txt": " \n",
    "node_modules/x/index.ts": "not mine",
    ".hidden": "not shown",
  });
  const dataset = await build(root, { licence: "CC0-1.0" });
  const [a, b, ...others] = await documents(dataset);
  assert.equal(others.length, 0);
  assert.equal(a?.text, "# One\ntwo\n");
  assert.deepEqual(a?.transformations, ["byte order mark removed", "CRLF to LF"]);
  assert.equal(b?.source, "folder:src/b.ts");
  assert.equal(b?.licence, "CC0-1.0");
  assert.match(b?.sha256 ?? "", /^[0-9a-f]{64}$/);
  assert.ok(Date.now() - Date.parse(b?.retrievedAt ?? "") < 60_000);
  assert.deepEqual(filtered(dataset), { binary: 1, "invalid UTF-8": 1, "too small": 1 });
  assert.deepEqual(dataset.manifest.filtered.binary?.examples, ["folder:image.png"]);
  assert.deepEqual(dataset.manifest.licences, { "CC0-1.0": { documents: 2, bytes: 30 } });
});

test("exact duplicates are dropped, also when only line ends, outer white space or composition differ", async () => {
  const root = folder({ "1": "same é\nx", "2": "same é\r\nx\n\n", "3": "same e\u0301\nx", "4": "Same é\nx" });
  const dataset = await build(root);
  assert.deepEqual(await texts(dataset), ["same é\nx", "Same é\nx"]);
  assert.deepEqual(dataset.manifest.filtered.duplicate, { count: 2, examples: ["folder:2", "folder:3"] });
});

test("globs, single files and several sources; names do not depend on where the tree lies", async () => {
  const files = { "docs/x/a.md": "a", "docs/b.md": "b", "docs/c.txt": "c", "d.txt": "d" };
  const [one, two] = [folder(files), folder(files)];
  const from = ["docs/**/*.md", "d.txt"];
  const dataset = await build(from, { cwd: one });
  assert.deepEqual(
    (await documents(dataset)).map(({ source }) => source),
    ["folder:b.md", "folder:x/a.md", "folder:d.txt"],
  );
  const elsewhere = await build([join(two, "docs/**/*.md"), join(two, "d.txt")], { cwd: two });
  assert.equal(elsewhere.hash, dataset.hash);
});

test("the hash is that of the content: not of time, but of text, split and licence", async () => {
  const files = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`${i}.txt`, `document ${i}`]));
  const options = { heldOut: 0.3, seed: 1 };
  const first = await build(folder(files), options);
  assert.equal((await build(folder(files), options)).hash, first.hash);
  assert.notEqual((await build(folder({ ...files, "7.txt": "changed" }), options)).hash, first.hash);
  assert.notEqual((await build(folder(files), { ...options, seed: 2 })).hash, first.hash);
  assert.notEqual((await build(folder(files), { ...options, licence: "MIT" })).hash, first.hash);
});

test("the split holds out about its share, and adding documents moves none", async () => {
  const files = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`${i}.txt`, `document ${i}`]));
  const options = { heldOut: 0.25, seed: 5 };
  const before = await build(folder(files), options);
  const heldOut = await texts(before, "heldOut");
  assert.ok(heldOut.length > 60 && heldOut.length < 140, `${heldOut.length} of 400`);
  assert.equal(heldOut.length + (await texts(before)).length, 400);
  const more = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`0more${i}.txt`, `another ${i}`]));
  const after = new Set(await texts(await build(folder({ ...files, ...more }), options), "heldOut"));
  assert.ok(heldOut.every((text) => after.has(text)));
});

test("--split tail holds out the end of each document", async () => {
  const dataset = await build(folder({ a: "0123456789", b: "abcdefgh😀😀" }), { heldOut: 0.25, split: "tail" });
  assert.deepEqual(await texts(dataset), ["0123456", "abcdefgh😀"]);
  assert.deepEqual(await texts(dataset, "heldOut"), ["789", "😀"]);
  assert.deepEqual((await documents(dataset))[0]?.transformations, ["characters 0-7 (split tail 0.25)"]);
});

test("JSONL, plain and gzipped: the text field, licences per record, bad lines by file and line", async () => {
  const lines = [
    '{"text":"one\u2028x","license":"MIT"}',
    "",
    '{"text":"two","licence":"GPL-3.0-only"}',
    '{"body":"three"}',
  ];
  const root = folder({
    "good.jsonl": lines.slice(0, 3).join("\n"),
    "good2.jsonl.gz": gzipSync('{"body":"zipped"}\n{"body":"more"}'),
    "bad.jsonl": `${lines[0]}\n{"text": oops}\n`,
    "field.jsonl": lines.join("\n"),
    "array.jsonl": "[1]\n",
    "utf8.jsonl": Buffer.concat([Buffer.from('{"text":"ok"}\n{"text":"'), Uint8Array.of(0xff), Buffer.from('"}\n')]),
    "cut.jsonl.gz": gzipSync('{"text":"a rather long text"}\n'.repeat(50)).subarray(0, 30),
  });
  const dataset = await build(join(root, "good.jsonl"), { allowLicences: ["MIT"] });
  assert.deepEqual(await texts(dataset), ["one\u2028x"]);
  assert.equal((await documents(dataset))[0]?.source, "jsonl:good.jsonl:1");
  assert.deepEqual(filtered(dataset), { "licence GPL-3.0-only": 1 });
  assert.deepEqual(await texts(await build(join(root, "good2.jsonl.gz"), { textField: "body" })), ["zipped", "more"]);
  const fails = (name: string, message: RegExp) =>
    assert.rejects(build(join(root, name)), { name: "PlinthError", message });
  await fails("bad.jsonl", /bad\.jsonl:2: not valid JSON .* Fix: repair or remove the line/);
  await fails(
    "field.jsonl",
    /field\.jsonl:4: expected text in the field "text", .* --text-field \(this line has body\)/,
  );
  await fails("array.jsonl", /array\.jsonl:1: expected an object, got \[1\]/);
  await fails("utf8.jsonl", /utf8\.jsonl:\d: invalid UTF-8/);
  await fails("cut.jsonl.gz", /cut\.jsonl\.gz: damaged gzip/);
  await fails("absent.jsonl", /absent\.jsonl: no such file/);
});

test("names in the data cannot touch the program's objects", async () => {
  const root = folder({ "x.jsonl": '{"text":"a","license":"__proto__"}\n{"text":"b","license":"constructor"}\n' });
  const dataset = await build(join(root, "x.jsonl"));
  assert.equal(Object.entries(dataset.manifest.licences).find(([id]) => id === "constructor")?.[1].documents, 1);
  assert.equal(({} as { documents?: number }).documents, undefined);
  assert.equal((await texts(dataset)).length, 2);
});

test("a link that leads back into the folder is not followed for ever", async () => {
  const root = folder({ "sub/a.txt": "text" });
  symlinkSync(root, join(root, "sub", "loop"));
  assert.deepEqual(await texts(await build(root)), ["text"]);
});

test("Parquet: the text column, licences, missing values; truncated and foreign files are named", async () => {
  const bytes = new Uint8Array(
    parquetWriteBuffer({
      columnData: [
        { name: "text", data: ["första", null, "third 😀"], type: "STRING" },
        { name: "n", data: [1, 2, 3], type: "INT32" },
        { name: "license", data: ["MIT", "MIT", "ISC"], type: "STRING" },
      ],
    }),
  );
  const root = folder({
    "a.parquet": bytes,
    "cut.parquet": bytes.subarray(0, bytes.length - 20),
    "text.parquet": "hello, I am text",
  });
  const dataset = await build(join(root, "a.parquet"));
  const found = (await documents(dataset)).map(({ text, licence, source }) => [text, licence, source]);
  assert.deepEqual(found, [
    ["första", "MIT", "parquet:a.parquet:1"],
    ["third 😀", "ISC", "parquet:a.parquet:3"],
  ]);
  assert.deepEqual(filtered(dataset), { "no text": 1 });
  await assert.rejects(
    build(join(root, "a.parquet"), { textField: "body" }),
    /no column "body"\. Fix: .*\(columns: text, n, license\)/,
  );
  await assert.rejects(build(join(root, "a.parquet"), { textField: "n" }), /column "n" holds number, expected text/);
  for (const name of ["cut", "text"]) {
    await assert.rejects(build(join(root, `${name}.parquet`)), {
      name: "PlinthError",
      message: new RegExp(`${name}\\.parquet: not a readable Parquet file .* Fix: it is truncated or damaged`),
    });
  }
});

test("a folder hands JSONL and Parquet files to their own readers", async () => {
  const root = folder({ "sub/r.jsonl": '{"text":"record"}\n', "t.txt": "text" });
  const dataset = await build(root);
  assert.deepEqual(
    (await documents(dataset)).map(({ source, text }) => [source, text]),
    [
      ["folder:sub/r.jsonl:1", "record"],
      ["folder:t.txt", "text"],
    ],
  );
});

test("npm: TypeScript and Markdown of installed packages with version and licence", async () => {
  const manifest = (name: string, rest: object) => JSON.stringify({ name, version: "1.2.3", ...rest });
  const root = folder({
    "node_modules/a/package.json": manifest("a", { license: "MIT" }),
    "node_modules/a/README.md": "readme of a",
    "node_modules/a/index.d.ts": "export declare const a: 1;",
    "node_modules/a/index.js": "exports.a = 1",
    "node_modules/a/node_modules/b/package.json": manifest("b", { licenses: [{ type: "MIT" }, { type: "WTFPL" }] }),
    "node_modules/a/node_modules/b/index.mts": "export const b = 2;",
    "node_modules/@s/c/package.json": manifest("@s/c", { license: "GPL-3.0-only" }),
    "node_modules/@s/c/x.ts": "export const c = 3;",
    "node_modules/broken/package.json": "{",
    "node_modules/broken/x.ts": "nobody's",
    "project/package.json": "{}",
  });
  const dataset = await build("npm", { cwd: join(root, "project"), allowLicences: ["MIT"] });
  const own = (await documents(dataset)).filter(({ source }) => source.includes("@1.2.3/"));
  assert.deepEqual(
    own.map(({ source, licence }) => [source, licence]),
    [
      ["npm:a@1.2.3/README.md", "MIT"],
      ["npm:a@1.2.3/index.d.ts", "MIT"],
      ["npm:b@1.2.3/index.mts", "(MIT OR WTFPL)"],
    ],
  );
  assert.ok((dataset.manifest.filtered["licence GPL-3.0-only"]?.count ?? 0) >= 1);
  assert.deepEqual(dataset.manifest.collections["a@1.2.3"], {
    documents: 2,
    bytes: 37,
    licence: "MIT",
    url: "https://www.npmjs.com/package/a/v/1.2.3",
  });
  assert.ok(
    Object.keys(dataset.manifest.collections).some((name) => name.startsWith("zod@")),
    "Plinth's own install is found",
  );
});

test("an empty dataset names the sources and what was filtered", async () => {
  const root = folder({ "a.txt": "mine", "b.png": Uint8Array.of(0) });
  await assert.rejects(build(root, { allowLicences: ["MIT"] }), {
    name: "PlinthError",
    message: `the dataset from ${root} is empty: filtered 1 licence NOASSERTION (e.g. folder:a.txt); 1 binary (e.g. folder:b.png). Fix: check the sources.`,
  });
  await assert.rejects(
    build(folder({ "a.txt": "mine" }), { allowLicences: ["MIT"] }),
    /Fix: allow one of these licences, or state .* --licence/,
  );
  await assert.rejects(build(folder({})), /is empty: no files or records were found/);
  await assert.rejects(build(folder({ a: "x" }), { heldOut: 0.999999 }), /all of them fell into the held-out split/);
  await assert.rejects(build(join(root, "absent")), /absent: no such file or folder/);
  await assert.rejects(build(join(root, "*.zig")), /the pattern matches no file/);
});

test("bad options are named", async () => {
  const root = folder({ a: "x" });
  await assert.rejects(build(root, { heldOut: 1 }), /--held-out: expected a share in \[0, 1\), got 1/);
  await assert.rejects(build(root, { seed: -1 }), /--seed/);
  await assert.rejects(build([]), /no source given/);
  await assert.rejects(
    build(root, { allowLicences: ["MIT OR ISC"] }),
    /--allow-licence: "MIT OR ISC" is not an SPDX licence id/,
  );
});

test("an interrupted build leaves no dataset, or the one that was there; a new one leaves no remains", async () => {
  const out = join(temporaryFolder(), "out");
  const files = { a: "first", b: "second", "c.jsonl": "{" };
  await assert.rejects(build(folder(files), { out }));
  await assert.rejects(
    openDataset(out),
    /not a dataset \(no manifest\.json\).* an interrupted build leaves no manifest/,
  );
  const first = await build(folder({ a: "first" }), { out });
  await assert.rejects(build(folder(files), { out, shardBytes: 1 }));
  assert.deepEqual(await texts(await openDataset(out)), ["first"]);
  assert.equal((await openDataset(out)).hash, first.hash);
  const second = await build(folder({ a: "other" }), { out });
  assert.deepEqual(readdirSync(join(out, "text")), [`${second.manifest.splits.train.shards[0]?.sha256}.jsonl.gz`]);
  await assert.rejects(build(folder({ a: "x" }), { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("building into a folder inside the source does not read its own output", async () => {
  const root = folder({ "a.txt": "text" });
  const out = join(root, "data");
  const first = await build(root, { out });
  assert.equal((await build(root, { out })).hash, first.hash);
});

test("an output folder that cannot be written is named", {
  skip: process.getuid?.() === 0 ? "root may write anywhere" : false,
}, async () => {
  const locked = temporaryFolder();
  chmodSync(locked, 0o500);
  await assert.rejects(build(folder({ a: "x" }), { out: join(locked, "out") }), /permission denied\. Fix: .*--out/);
});

test("an output path through a file is named", async () => {
  const root = folder({ a: "x" });
  await assert.rejects(
    build(root, { out: join(root, "a", "out") }),
    /a part of the path is a file, not a folder\. Fix: .*--out/,
  );
});

test("many shards hold every document once; damage is found when reading", async () => {
  const files = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`${i}.txt`, `document number ${i}`]));
  const dataset = await build(folder(files), { shardBytes: 100 });
  const { shards } = dataset.manifest.splits.train;
  assert.ok(shards.length > 5);
  assert.deepEqual((await texts(dataset)).sort(), Object.values(files).sort());
  const path = join(dataset.dir, "text", `${shards[3]?.sha256}.jsonl.gz`);
  writeFileSync(path, gzipSync("{}\n"));
  await assert.rejects(
    texts(dataset),
    /\.jsonl\.gz: damaged \(its content does not match its name\)\. Fix: build the dataset again/,
  );
  writeFileSync(path, readFileSync(path).subarray(0, 10));
  await assert.rejects(texts(dataset), /damaged/);
  rmSync(path);
  await assert.rejects(texts(dataset), /no such file/);
  writeFileSync(join(dataset.dir, "manifest.json"), "{}");
  await assert.rejects(openDataset(dataset.dir), /manifest\.json: format:/);
});

test("real text: WikiText and tiny Shakespeare", {
  skip: skipWithout("text/wikitext-2/valid.txt", "text/tinyshakespeare/input.txt"),
}, async () => {
  const dataset = await build([asset("text/wikitext-2"), asset("text/tinyshakespeare/input.txt")], {
    heldOut: 0.1,
    split: "tail",
  });
  const { train, heldOut } = dataset.manifest.splits;
  assert.equal(train.bytes + heldOut.bytes, 1256449 + 1121681 + 1115394);
  assert.equal(train.documents, 3);
  const shakespeare = (await documents(dataset)).at(-1);
  assert.equal(shakespeare?.text.length, Math.floor(1115394 * 0.9)); // nanoGPT's split
});
