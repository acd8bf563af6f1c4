import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import type { SamplingOptions } from "../../src/generate/index.ts";
import { logSoftmax, nextTokenDistribution, pick, topIds } from "../../src/generate/sampler.ts";

interface Golden {
  readonly logits: readonly number[][];
  readonly cases: readonly {
    options: SamplingOptions;
    logits: number;
    seen: number[];
    ids: number[];
    probabilities: number[];
  }[];
}
const golden = JSON.parse(readFileSync(join(packageRoot(), "test/generate/golden/sampling.json"), "utf8")) as Golden;

test("filters keep the tokens and probabilities that transformers keeps", () => {
  assert.ok(golden.cases.length > 30);
  for (const { options, logits, seen, ids, probabilities } of golden.cases) {
    const got = nextTokenDistribution(Float32Array.from(golden.logits[logits] as number[]), options, new Set(seen));
    const where = `${JSON.stringify(options)} on logits ${logits}`;
    // probabilities below 1e-8 underflow to zero in the golden values' float32 sums
    const kept = [...got.ids].filter((_, i) => (got.probabilities[i] as number) > 0);
    assert.deepEqual(kept, ids, where);
    for (const [i, expected] of probabilities.entries()) {
      assert.ok(Math.abs((got.probabilities[i] as number) - expected) < 2e-7, `${where}: id ${ids[i]}`);
    }
  }
});

test("temperature 0 takes the likeliest token, the first of equals", () => {
  const { ids } = nextTokenDistribution(Float32Array.of(1, 5, 5, 2), { temperature: 0 });
  assert.deepEqual([...ids], [1]);
});

test("top-p keeps just enough of equally likely tokens", () => {
  const { ids } = nextTokenDistribution(new Float32Array(10), { topP: 0.45 });
  assert.deepEqual([...ids], [0, 1, 2, 3, 4]);
});

test("top-k of a large vocabulary is the same by insertion and by sorting", () => {
  const logits = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i * 12.9898) * 9);
  const expected = [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number));
  for (const topK of [1, 256, 257, 4999]) {
    const { ids } = nextTokenDistribution(logits, { topK });
    assert.deepEqual(
      [...ids].sort((a, b) => a - b),
      expected.slice(0, topK).sort((a, b) => a - b),
      `k = ${topK}`,
    );
  }
});

test("logits that are not finite are an error", () => {
  assert.throws(
    () => nextTokenDistribution(Float32Array.of(1, Number.NaN), {}),
    /logits are not finite.*earlier checkpoint/,
  );
  assert.throws(() => nextTokenDistribution(Float32Array.of(Number.POSITIVE_INFINITY, 1), {}), /not finite/);
});

test("pick walks the cumulative distribution", () => {
  const distribution = { ids: Int32Array.of(3, 5, 9), probabilities: Float64Array.of(0.25, 0.5, 0.25) };
  assert.deepEqual(
    [0, 0.24, 0.25, 0.7, 0.75, 0.9999999].map((u) => pick(distribution, u)),
    [3, 3, 5, 5, 9, 9],
  );
  assert.equal(
    pick({ ids: Int32Array.of(1, 2), probabilities: Float64Array.of(1, 0) }, 1),
    1,
    "never an impossible token",
  );
});

test("log-softmax adds up to one and topIds are in falling order", () => {
  const logprobs = logSoftmax(Float32Array.of(1000, 1001, 999));
  assert.ok(Math.abs(logprobs.reduce((sum, l) => sum + Math.exp(l), 0) - 1) < 1e-12);
  assert.deepEqual(topIds(logprobs, 2), [1, 0]);
  assert.deepEqual(topIds(Float32Array.of(2, 7, 7, 1), 9), [1, 2, 0, 3]);
});
