/** The real Llama weights of the assets (SOURCES.md there): same logits and greedy tokens as the reference program. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { suite, test } from "node:test";
import { type Backend, NdArray } from "../../src/engine/index.ts";
import { loadModel } from "../../src/models/index.ts";
import { asset, skipWithout } from "../assets.ts";
import { backends, decodeGreedily, logitsOf, relativeError } from "./support.ts";

const weights = "weights/stories260k-hf";
const goldenValues = "weights/stories260K/golden.json";

interface StoriesGolden {
  readonly logits_after_bos: readonly number[];
  readonly greedy_ids_with_bos: readonly number[];
  readonly greedy_text_published: string;
}

suite("stories260K", { skip: skipWithout(weights, goldenValues) }, () => {
  const golden = async (): Promise<StoriesGolden> =>
    JSON.parse(await readFile(asset(goldenValues), "utf8")) as StoriesGolden;

  for (const { name, backend, skip } of backends) {
    test(`${name}: logits after the first token`, { skip }, async () => {
      const expected = NdArray.float32([1, 1, 512], (await golden()).logits_after_bos);
      const logits = await logitsOf(
        await loadModel(asset(weights)),
        { tokens: NdArray.int32([1, 1], [1]) },
        backend as Backend,
      );
      const error = relativeError(logits, expected);
      assert.ok(error <= 1e-5, `${error}`);
    });
  }

  const { backend, skip } = backends.find(({ name }) => name === "native") as (typeof backends)[number];
  test("native: the published story, by the cache", { skip }, async () => {
    const { greedy_ids_with_bos: ids, greedy_text_published: text } = await golden();
    const model = await loadModel(asset(weights));
    const prompt = ids.slice(0, 5);
    const steps = ids.length - prompt.length;
    const decoded = await decodeGreedily(model, NdArray.int32([1, prompt.length], prompt), steps, backend as Backend);
    assert.deepEqual([...decoded.ids], ids.slice(prompt.length));
    const written = await model.tokenizer?.decode([...prompt, ...decoded.ids], { skipSpecialTokens: true });
    assert.ok(written?.trimStart().startsWith(text.slice(0, 500)), written);
  });
});
