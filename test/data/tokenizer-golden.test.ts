/** Ids, spans and texts of the tokenizers library, on tokenizers as the published models have them (test/golden/make_tokenizer_golden.py). */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { type Encoded, Tokenizer } from "../../src/data/index.ts";
import { asset, skipWithout } from "../assets.ts";

/** What {@link Encoded} is in JSON. */
interface Lists {
  ids: number[];
  typeIds: number[];
  offsets: [number, number][];
  sequences: (number | null)[];
  words: (number | null)[];
}

interface Cases {
  texts: {
    text: string;
    ids: number[];
    special: number[];
    offsets: [number, number][];
    decoded: string;
    skipped: string;
  }[];
  pairs: ({ pair: [string, string] } & Lists)[];
  truncated: ({ pair: [string, string]; maxLength: number; alone: number[] } & Lists)[];
}

const folder = join(packageRoot(), "test/golden/tokenizers");
const golden = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8")) as Record<
  "made" | "assets",
  Record<string, Cases>
>;
const tokenizers = [
  ...Object.entries(golden.made).map(([name, cases]) => ({
    name,
    path: () => join(folder, `${name}.json`),
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
const plain = ({ ids, typeIds, offsets, sequences, words }: Encoded) => ({
  ids: [...ids],
  typeIds: [...typeIds],
  offsets,
  sequences: sequences.map((sequence) => sequence ?? null),
  words: words.map((word) => word ?? null),
});

for (const { name, path, cases, skip } of tokenizers) {
  suite(name, { skip }, async () => {
    const tokenizer = skip === false ? await Tokenizer.load(path()) : undefined;
    if (tokenizer === undefined) return;

    test("texts: ids, spans, decoded", async () => {
      for (const { text, ids, special, offsets, decoded, skipped } of cases.texts) {
        assert.deepEqual([...(await tokenizer.encode(text))], ids, text);
        const whole: number[] = [...(await tokenizer.encode(text, { addSpecialTokens: true }))];
        assert.deepEqual(whole, special, text);
        assert.deepEqual((await tokenizer.encodeWithOffsets(text)).offsets, offsets, text);
        assert.equal(await tokenizer.decode(ids), decoded);
        assert.equal(await tokenizer.decode(whole, { skipSpecialTokens: true }), skipped);
      }
    });

    test("streamed id by id, the text of all ids", async () => {
      for (const { ids } of cases.texts) {
        const stream = tokenizer.streamDecoder({ skipSpecialTokens: false });
        const pieces: string[] = [];
        for (const id of ids) pieces.push(await stream.push(id));
        pieces.push(await stream.flush());
        assert.equal(pieces.join(""), await tokenizer.decode(ids));
      }
    });

    test("pairs: ids, types, spans, words", async () => {
      for (const { pair, ...expected } of cases.pairs) {
        assert.deepEqual(plain(await tokenizer.encodePair(...pair)), expected, `${pair}`);
      }
    });

    test("pairs cut to a length", async () => {
      for (const { pair, maxLength, alone, ...expected } of cases.truncated) {
        assert.deepEqual(plain(await tokenizer.encodePair(...pair, { maxLength })), expected, `${maxLength}`);
        const one = await tokenizer.encodeWithOffsets(pair[1], { maxLength, addSpecialTokens: true });
        assert.deepEqual([...one.ids], alone, `${maxLength}`);
      }
    });

    test("no text can spell a special token when it is literal", async () => {
      const unknown = tokenizer.tokenToId(tokenizer.json.model.unk_token ?? "<unk>");
      const specials = new Set([...tokenizer.specialTokens.values()].filter((id) => id !== unknown));
      assert.ok(specials.size > 0);
      const texts = [...tokenizer.specialTokens.keys(), [...tokenizer.specialTokens.keys()].join(" ")];
      for (const text of texts) {
        const ids = [...(await tokenizer.encode(text, { literal: true }))];
        assert.ok(ids.length > 0 && ids.every((id) => !specials.has(id)), `${text}: ${ids}`);
      }
      for (const { text, ids } of cases.texts) {
        if ([...tokenizer.specialTokens.keys()].some((token) => text.includes(token))) continue;
        assert.deepEqual([...(await tokenizer.encode(text, { literal: true }))], ids, text);
      }
    });

    test("a question in windows over a text: all of it, overlapping, each no longer than asked", async () => {
      const [question, context] = ["Who jumps?", "The quick brown fox 😀 jumps over the lazy dog. ".repeat(6)];
      const [maxLength, stride] = [40, 5];
      const windows = await tokenizer.encodeWindows(question, context, { maxLength, stride });
      const ofContext = (of: Encoded) => [...of.ids.filter((_, i) => of.sequences[i] === 1)];
      const typesOfContext = (of: Encoded) => new Set(of.typeIds.filter((_, i) => of.sequences[i] === 1));
      const pair = await tokenizer.encodePair(question, context);
      const parts = windows.map(ofContext);
      for (const window of windows) {
        assert.ok(window.ids.length <= maxLength);
        assert.deepEqual(typesOfContext(window), typesOfContext(pair));
      }
      assert.ok(windows.length > 1);
      for (const next of parts.slice(1))
        assert.deepEqual(parts[parts.indexOf(next) - 1]?.slice(-stride), next.slice(0, stride));
      assert.deepEqual([...(parts[0] ?? []), ...parts.slice(1).flatMap((part) => part.slice(stride))], ofContext(pair));
      await assert.rejects(tokenizer.encodeWindows(context, question, { maxLength: 8 }), {
        name: "PlinthError",
        message: /^maxLength: expected at least \d+ \(with the tokens that are added\), got 8\. Fix: /,
      });
    });
  });
}
