import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { trainCharTokenizer } from "../../src/data/index.ts";
import { infill, infillingOrders } from "../../src/generate/index.ts";
import { loadModel, saveModel } from "../../src/models/index.ts";
import { tinyModel } from "../generate/support.ts";
import { plinth } from "./run-main.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-generate-"));
  const specialTokens = ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"];
  const tokenizer = await trainCharTokenizer(["abcdefgh \n"], { specialTokens });
  await saveModel({ ...tinyModel("llama", { vocabSize: tokenizer.vocabSize, contextLength: 24 }), tokenizer }, folder);
});
after(() => rm(folder, { recursive: true, force: true }));

test("generate fills in between a prompt and a suffix, in either order", async () => {
  const dials = ["--max-tokens", "6", "--temperature", "0", "--json"];
  const model = await loadModel(folder);
  const written = new Set<string>();
  for (const order of infillingOrders) {
    const { code, out } = await plinth(
      "generate",
      folder,
      "--prompt",
      "abc",
      "--suffix",
      "fgh",
      "--fim-order",
      order,
      ...dials,
    );
    assert.equal(code, 0);
    const { tokens } = await infill(model, { prefix: "abc", suffix: "fgh" }, { order, maxTokens: 6, temperature: 0 });
    assert.deepEqual(JSON.parse(out).tokens, [...tokens]);
    written.add(JSON.stringify(tokens));
  }
  assert.equal(written.size, 2, "the two orders are two prompts");
  const { out: usual } = await plinth("generate", folder, "--prompt", "abc", "--suffix", "fgh", ...dials);
  assert.ok(written.has(JSON.stringify(JSON.parse(usual).tokens)));
  const { code, err } = await plinth("generate", folder, "--prompt", "abc", "--fim-order", "spm");
  assert.equal(code, 1);
  assert.match(err, /--fim-order without --suffix/);
});
