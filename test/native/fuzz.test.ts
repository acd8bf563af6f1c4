/** Short runs of `scripts/fuzz-ops.mjs` and `npm run test:sanitize`, the same every time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadNative } from "../../src/engine/backends/load-native.ts";
import { createBackend } from "../../src/engine/index.ts";
import { fuzzOps } from "../engine/op-fuzz.ts";
import { graphCases, hostileCases, stepCases } from "./driver-cases.ts";
import { sameBits } from "./run-kernel.ts";

for (const [name, count] of [
  ["native", 500],
  ["wasm", 150],
] as const) {
  test(`ops with random arguments are refused or equal the oracle, ${name}`, async () => {
    const { equal, refused, failures } = await fuzzOps(createBackend(name), { seed: 1, count });
    assert.deepEqual(failures, []);
    assert.ok(equal > count / 4 && refused > count / 20, `${equal} equal, ${refused} refused of ${count}`);
  });
}

test("programs with hostile numbers are refused with a message or run", async () => {
  const addon = loadNative();
  const counts = { ran: 0, refused: 0 };
  for (const { name, spec, inputs } of hostileCases(1, 400)) {
    try {
      const program = addon.createProgram(spec);
      const outputs = spec.outputs.map(({ bytes, aliasInput }) =>
        aliasInput === undefined ? new Uint8Array(bytes) : (inputs[aliasInput] as ArrayBufferView),
      );
      await addon.run(program, inputs, outputs);
      counts.ran++;
    } catch (error) {
      assert.ok((error as Error).message.length > 12, `${name}: says only "${(error as Error).message}"`);
      counts.refused++;
    }
  }
  assert.ok(counts.ran > 40 && counts.refused > 100, JSON.stringify(counts));
});

test("random programs and training steps have the same bits on one to four threads", async () => {
  const addon = loadNative();
  const before = addon.threads();
  for (const { name, spec, inputs } of [...graphCases(3, 10), ...(await stepCases(3, 10))]) {
    const results: Uint8Array[][] = [];
    for (const threads of [1, 2, 3, 4]) {
      addon.setThreads(threads);
      const copies = inputs.map((data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice());
      const outputs = spec.outputs.map(({ bytes, aliasInput }) =>
        aliasInput === undefined ? new Uint8Array(bytes) : (copies[aliasInput] as Uint8Array<ArrayBuffer>),
      );
      await addon.run(addon.createProgram(spec), copies, outputs);
      results.push(outputs);
    }
    for (const outputs of results.slice(1)) {
      outputs.forEach((data, i) => {
        assert.ok(sameBits(data, results[0]?.[i] as Uint8Array), `${name}: output ${i}`);
      });
    }
  }
  addon.setThreads(before);
});
