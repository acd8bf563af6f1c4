/** SentencePiece models load as they are and encode like the sentencepiece library (test/golden/make_sentencepiece_golden.py). */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { Tokenizer } from "../../src/data/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { temporaryFolder } from "./support.ts";

interface Cases {
  vocabSize: number;
  texts: { text: string; ids: number[]; decoded: string }[];
}

const folder = join(packageRoot(), "test/golden/sentencepiece");
const golden = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8")) as Record<
  "made" | "assets",
  Record<string, Cases>
>;
const made = (name: string) => join(folder, `${name}.model`);
const models = [
  ...Object.entries(golden.made).map(([name, cases]) => ({
    name,
    path: () => made(name),
    cases,
    skip: false as const,
  })),
  ...Object.entries(golden.assets).map(([name, cases]) => ({
    name,
    path: () => asset(name),
    cases,
    skip: skipWithout(name),
  })),
];

for (const { name, path, cases, skip } of models) {
  test(`${name}: ids and texts of the sentencepiece library`, { skip }, async () => {
    const tokenizer = await Tokenizer.load(path());
    assert.equal(tokenizer.vocabSize, cases.vocabSize);
    for (const { text, ids, decoded } of cases.texts) {
      assert.deepEqual([...(await tokenizer.encode(text))], ids, JSON.stringify(text));
      // The library writes ⁇ for what it does not know.
      if (!decoded.includes("⁇")) assert.equal(await tokenizer.decode(ids, { skipSpecialTokens: true }), decoded);
    }
    const saved = temporaryFolder();
    await tokenizer.save(saved);
    assert.equal((await Tokenizer.load(saved)).hash, tokenizer.hash);
  });
}

/** A folder with this model as `file`, and a tokenizer_config.json. */
function folderWith(name: string, file: string, config?: object): string {
  const dir = temporaryFolder();
  copyFileSync(made(name), join(dir, file));
  if (config !== undefined) writeFileSync(join(dir, "tokenizer_config.json"), JSON.stringify(config));
  return dir;
}

suite("what goes around texts", () => {
  const ends = async (dir: string) => {
    const tokenizer = await Tokenizer.load(dir);
    const ids = [...(await tokenizer.encode("the dog", { addSpecialTokens: true }))];
    const plain = [...(await tokenizer.encode("the dog"))];
    const at = ids.indexOf(plain[0] as number);
    const outer = [...ids.slice(0, at), undefined, ...ids.slice(at + plain.length)];
    return outer.map((id) => (id === undefined ? "text" : tokenizer.idToToken(id)));
  };

  test("Llama begins, T5 ends, tokenizer_config.json decides", async () => {
    assert.deepEqual(await ends(folderWith("llama", "tokenizer.model")), ["<s>", "text"]);
    assert.deepEqual(await ends(folderWith("t5", "spiece.model")), ["text", "</s>"]);
    const both = { add_bos_token: true, add_eos_token: true };
    assert.deepEqual(await ends(folderWith("llama", "tokenizer.model", both)), ["<s>", "text", "</s>"]);
    assert.deepEqual(await ends(folderWith("llama", "tokenizer.model", { add_bos_token: false })), ["text"]);
    const { typeIds } = await (await Tokenizer.load(made("llama"))).encodePair("the", "dog");
    assert.deepEqual([typeIds[0], typeIds.at(-1)], [0, 1]);
  });

  test("special tokens and their ids; user-defined ones are text", async () => {
    const llama = await Tokenizer.load(made("llama"));
    assert.deepEqual(
      [...llama.specialTokens],
      [
        ["<unk>", 0],
        ["<s>", 1],
        ["</s>", 2],
      ],
    );
    assert.deepEqual([llama.bosId, llama.eosId, llama.padId], [1, 2, undefined]);
    const gemma = await Tokenizer.load(made("gemma"));
    assert.deepEqual([gemma.padId, gemma.eosId, gemma.bosId], [0, 1, 2]);
    assert.ok(!gemma.specialTokens.has("<start>"));
    assert.ok([...(await gemma.encode("a<start>b", { literal: true }))].includes(gemma.tokenToId("<start>") as number));
    assert.ok(![...(await gemma.encode("a<eos>b", { literal: true }))].includes(gemma.eosId as number));
  });

  test("T5's sentinels come last, the first of them at the very end; tokens added later keep their ids", async () => {
    const size = golden.made["t5"]?.vocabSize as number;
    const flags = { special: true, lstrip: false, rstrip: false, normalized: false, single_word: false };
    const added = { [size + 100]: { content: "<new>", ...flags } };
    const config = { tokenizer_class: "T5Tokenizer", added_tokens_decoder: added };
    const t5 = await Tokenizer.load(folderWith("t5", "spiece.model", config));
    assert.deepEqual(
      [t5.tokenToId("<extra_id_99>"), t5.tokenToId("<extra_id_0>"), t5.tokenToId("<new>")],
      [size, size + 99, size + 100],
    );
    assert.ok([...(await t5.encode("the <extra_id_0> dog"))].includes(size + 99));
  });
});

test("what is not such a model is refused", async () => {
  const rejects = (dir: string, message: RegExp) =>
    assert.rejects(Tokenizer.load(dir), { name: "PlinthError", message });
  await rejects(
    folderWith("t5", "spiece.model", { tokenizer_class: "PegasusTokenizer" }),
    /the ids of a PegasusTokenizer are not those of a SentencePiece model .* Fix: save the tokenizer with transformers/,
  );
  const dir = temporaryFolder();
  const file = join(dir, "tokenizer.model");
  for (const content of ["IQ== 0\nIg== 1\n", "\u0000\u0000", "x"]) {
    writeFileSync(file, content);
    await rejects(dir, /tokenizer\.model: not a SentencePiece model/);
  }
  const whole = readFileSync(made("llama"));
  for (let length = 0; length < whole.length; length += 37) {
    writeFileSync(file, whole.subarray(0, length));
    await Tokenizer.load(dir).catch((error: Error) => assert.equal(error.name, "PlinthError", error.stack));
  }
});
