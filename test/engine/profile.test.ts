import assert from "node:assert/strict";
import { test } from "node:test";
import { chromeTrace, groupProfile, operationName, type ProfileEntry } from "../../src/engine/index.ts";

const entry = (changes: Partial<ProfileEntry>): ProfileEntry => ({
  label: "h.0.mlp: matmul",
  kernel: "matmul",
  seconds: 2,
  calls: 2,
  lastStart: 0,
  lastSeconds: 1,
  flops: 3e9,
  bytes: 1e9,
  shapes: "8x4 · 4x2",
  operands: "float32",
  ...changes,
});
const copy = entry({
  label: "h.0: cast (copy)",
  kernel: "copy",
  seconds: 4,
  calls: 1,
  lastStart: 1,
  lastSeconds: 4,
  flops: 0,
  shapes: "float32[8]",
});

test("groupProfile adds up one run, longest first, against the limits call by call", () => {
  const limits = { gflops: 6, bfloat16Gflops: 12, gigabytesPerSecond: 4 };
  const entries = [entry({}), entry({ label: "h.1.mlp: matmul", operands: "bfloat16" }), copy, entry({ calls: 0 })];
  assert.deepEqual(
    groupProfile(entries, ({ kernel }) => kernel, limits),
    [
      { name: "copy", calls: 1, seconds: 4, share: 4 / 6, flops: 0, bytes: 1e9, leastSeconds: 0.25 },
      // 0.5 s at the float32 limit; 0.25 s at the bfloat16 one, as long as its memory takes.
      { name: "matmul", calls: 2, seconds: 2, share: 2 / 6, flops: 6e9, bytes: 2e9, leastSeconds: 0.75 },
    ],
  );
  assert.deepEqual(groupProfile([], operationName, limits), []);
});

test("operationName puts the layers of a model together", () => {
  assert.equal(operationName(entry({})), "h.*.mlp: matmul  8x4 · 4x2");
  assert.equal(operationName(entry({ label: "h.11: matmul", operands: "bfloat16" })), "h.*: matmul  8x4 · 4x2 bf16");
  assert.equal(operationName(entry({ label: "ln_2: layerNorm", shapes: "" })), "ln_2: layerNorm");
});

test("chromeTrace lays the last run of each program one after the other, in microseconds", () => {
  const trace = chromeTrace([
    { name: "first", entries: [entry({}), copy] },
    { name: "second", entries: [entry({ lastSeconds: 0.5 }), entry({ calls: 0 })] },
  ]) as { traceEvents: { ph: string; name: string; cat: string; ts: number; dur: number; args: object }[] };
  const events = trace.traceEvents.filter(({ ph }) => ph === "X");
  assert.deepEqual(
    events.map(({ name, cat, ts, dur }) => [name, cat, ts, dur]),
    [
      ["first", "program", 0, 5e6],
      ["h.0.mlp: matmul", "matmul", 0, 1e6],
      ["h.0: cast (copy)", "copy", 1e6, 4e6],
      ["second", "program", 5e6, 0.5e6],
      ["h.0.mlp: matmul", "matmul", 5e6, 0.5e6],
    ],
  );
  assert.deepEqual(events[4]?.args, {
    kernel: "matmul",
    shapes: "8x4 · 4x2",
    bytes: 1e9,
    "GB/s": 2,
    flops: 3e9,
    "GFLOP/s": 6,
  });
});
