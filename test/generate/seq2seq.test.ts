import assert from "node:assert/strict";
import { test } from "node:test";
import type { NdArray } from "../../src/engine/index.ts";
import { generateAll, scoreSequences } from "../../src/generate/index.ts";
import { backends, loadGolden } from "../models/support.ts";

for (const { name: backendName, backend, skip } of backends) {
  test(`T5 answers as the reference does, alone and in a batch of unequal sources, ${backendName}`, {
    skip,
  }, async () => {
    const { model, value } = await loadGolden("t5-variant");
    const [source, expected] = [value("source"), value("decode.tokens")];
    const [B, S] = source.shape as [number, number];
    const row = ({ data }: NdArray, b: number, width: number): number[] =>
      [...data.slice(b * width, (b + 1) * width)] as number[];
    const options = { maxTokens: 8, temperature: 0, eosIds: [], ...(backend === undefined ? {} : { backend }) };
    const sources = Array.from({ length: B }, (_, b) => row(source, b, S));
    const answers = await generateAll(model, sources, options);
    for (const [b, { tokens }] of answers.entries()) assert.deepEqual(tokens, row(expected, b, 8), `source ${b}`);
    const short = [sources[1] as number[], (sources[0] as number[]).slice(0, 4), sources[1] as number[]];
    const together = await generateAll(model, short, options);
    assert.deepEqual(together[0]?.tokens, answers[1]?.tokens);
    assert.deepEqual(together[2]?.tokens, answers[1]?.tokens);
    const [alone] = await generateAll(model, [short[1] as number[]], options);
    assert.deepEqual(together[1]?.tokens, alone?.tokens);
  });
}

test("an answer may be as long as the model's context, whatever was read; scoring needs a decoder", async () => {
  const { model } = await loadGolden("t5");
  const source = Array.from({ length: 40 }, (_, i) => 2 + (i % 50));
  const [long] = await generateAll(model, [source], { maxTokens: 100, eosIds: [] });
  assert.equal(long?.tokens.length, 40);
  assert.equal(long?.finishReason, "length");
  const ids = Int32Array.of(1, 2);
  await assert.rejects(scoreSequences(model, [{ tokens: ids, targets: ids }]), /scoring: t5 is an encoder-decoder/);
});
