/** The real Llama weights of the assets (SOURCES.md there): same logits and greedy tokens as the reference program. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { type Backend, NdArray } from "../../src/engine/index.ts";
import { loadModel } from "../../src/models/index.ts";
import { assetsDir, backends, decodeGreedily, logitsOf, relativeError } from "./support.ts";

const dir = join(assetsDir, "weights", "stories260k-hf");
const goldenPath = join(assetsDir, "weights", "stories260K", "golden.json");
const missing = existsSync(dir) && existsSync(goldenPath) ? false : `no weights in ${assetsDir}; set PLINTH_ASSETS`;

interface StoriesGolden {
  readonly logits_after_bos: readonly number[];
  readonly greedy_ids_with_bos: readonly number[];
  readonly greedy_text_published: string;
}

suite("stories260K", { skip: missing }, () => {
  const golden = async (): Promise<StoriesGolden> => JSON.parse(await readFile(goldenPath, "utf8")) as StoriesGolden;

  for (const { name, backend, skip } of backends) {
    test(`${name}: logits after the first token`, { skip }, async () => {
      const expected = NdArray.float32([1, 1, 512], (await golden()).logits_after_bos);
      const logits = await logitsOf(await loadModel(dir), { tokens: NdArray.int32([1, 1], [1]) }, backend as Backend);
      const error = relativeError(logits, expected);
      assert.ok(error <= 1e-5, `${error}`);
    });
  }

  const { backend, skip } = backends.find(({ name }) => name === "native") as (typeof backends)[number];
  test("native: the published story, by the cache", { skip }, async () => {
    const { greedy_ids_with_bos: ids, greedy_text_published: text } = await golden();
    const model = await loadModel(dir);
    const prompt = ids.slice(0, 5);
    const steps = ids.length - prompt.length;
    const decoded = await decodeGreedily(model, NdArray.int32([1, prompt.length], prompt), steps, backend as Backend);
    assert.deepEqual([...decoded.ids], ids.slice(prompt.length));
    const written = await model.tokenizer?.decode([...prompt, ...decoded.ids], { skipSpecialTokens: true });
    assert.ok(written?.trimStart().startsWith(text.slice(0, 500)), written);
  });
});
