import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { plinth } from "./run-main.ts";

const recipes = join(packageRoot(), "recipes");

/** What the command in a recipe's header trains the tokenizer with, but for size and data. */
function tokenizerFlags(recipe: string): string[] | undefined {
  const command = /plinth tokenizer train (.*?) --out/s.exec(recipe.replace(/\\\n# +/g, ""))?.[1];
  return command
    ?.replace(/--data \S+|--vocab-size \d+/g, "")
    .split(/\s+/)
    .filter((flag) => flag !== "")
    .map((flag) => flag.replace(/^"(.*)"$/, "$1"));
}

describe("recipes", () => {
  let folder: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "plinth-recipes-"));
    const words = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "log", "and", "then", "slept", "there"];
    const text = (i: number): string =>
      Array.from(
        { length: 120 },
        (_, k) => words[(i * 7 + k * k + (k % 5)) % words.length] + (k % 9 === 8 ? "." : ""),
      ).join(" ");
    writeFileSync(
      join(folder, "texts.jsonl"),
      Array.from({ length: 30 }, (_, i) => JSON.stringify({ text: text(i) })).join("\n"),
    );
    const from = join(folder, "texts.jsonl");
    const built = await plinth("data", "build", "--from", from, "--held-out", "0.2", "--out", join(folder, "data"));
    assert.equal(built.code, 0, built.err);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const name of readdirSync(recipes).filter((file) => file.endsWith(".yaml") && !file.startsWith("scale-"))) {
    test(`${name} trains, with the tokenizer that its header makes`, async () => {
      const path = join(recipes, name);
      const data = ["--data", join(folder, "data")];
      const out = join(folder, name);
      const flags = tokenizerFlags(readFileSync(path, "utf8"));
      const tokenizer = flags === undefined ? [] : ["--tokenizer", join(folder, `tokenizer-${name}`)];
      if (flags !== undefined) {
        const size =
          flags.includes("bpe") || !flags.includes("--type") ? "300" : flags.includes("--sentinels") ? "180" : "90";
        const made = await plinth(
          "tokenizer",
          "train",
          ...data,
          ...flags,
          "--vocab-size",
          size,
          "--out",
          tokenizer[1] as string,
        );
        assert.equal(made.code, 0, made.err);
      }
      const short = [
        "--steps",
        "2",
        "--warmup-steps",
        "1",
        "--batch-size",
        "2",
        "--held-out-batches",
        "1",
        "--precision",
        "f32",
      ];
      const trained = await plinth("pretrain", path, ...data, ...tokenizer, ...short, "--out", out, "--json");
      assert.equal(trained.code, 0, trained.err);
      const { steps, heldOut } = JSON.parse(trained.out) as { steps: number; heldOut: { loss: number } };
      assert.equal(steps, 2);
      assert.ok(Number.isFinite(heldOut.loss));
    });
  }
});
