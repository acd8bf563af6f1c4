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

test("a training step agrees with the reference, three steps in a row", async () => {
  const native = jit(toyStep(small), { donate: [0], backend: createBackend("native") });
  const reference = jit(toyStep(small), { donate: [0], backend: createBackend("reference") });
  let [a, tokens, targets, lr] = toyArguments(small);
  let [b] = toyArguments(small);
  for (let step = 0; step < 3; step++) {
    const fromNative = await native(a, tokens, targets, lr);
    const fromReference = await reference(b, tokens, targets, lr);
    assert.ok((await largestError(fromNative, fromReference)) < 1e-4);
    a = fromNative.state;
    b = fromReference.state;
  }
});
