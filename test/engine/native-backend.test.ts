import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackend, jit, type NdArray } from "../../src/engine/index.ts";
import { flatten } from "../../src/engine/index.ts";
import { toyArguments, type ToyConfig, toyStep } from "./toy-transformer.ts";

const small: ToyConfig = { layers: 2, width: 16, heads: 2, vocabulary: 31, context: 7, batch: 3 };

/** Largest difference relative to max(1, |expected|) over all leaves. */
async function largestError(actual: unknown, expected: unknown): Promise<number> {
  let worst = 0;
  const given = flatten(actual as NdArray);
  for (const [i, [path, array]] of flatten(expected as NdArray).entries()) {
    const [otherPath, other] = given[i] as [string, NdArray];
    assert.equal(otherPath, path);
    const [a, b] = [await other.read(), await array.read()];
    assert.equal(a.length, b.length, path);
    for (let k = 0; k < b.length; k++) {
      const error = Math.abs((a[k] as number) - (b[k] as number)) / Math.max(1, Math.abs(b[k] as number));
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

for (const plainAttention of [true, false]) {
  const name = plainAttention ? "with attention from products and softmax" : "with the attention kernel";
  test(`a training step ${name} agrees with the reference, three steps in a row`, async () => {
    const config = { ...small, plainAttention };
    const native = jit(toyStep(config), { donate: [0], backend: createBackend("native") });
    const reference = jit(toyStep(config), { donate: [0], backend: createBackend("reference") });
    let [a, tokens, targets, lr] = toyArguments(config);
    let [b] = toyArguments(config);
    for (let step = 0; step < 3; step++) {
      const fromNative = await native(a, tokens, targets, lr);
      const fromReference = await reference(b, tokens, targets, lr);
      const error = await largestError(fromNative, fromReference);
      assert.ok(error < 1e-4, `step ${step}: ${error}`);
      a = fromNative.state;
      b = fromReference.state;
    }
  });
}
