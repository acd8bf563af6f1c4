import assert from "node:assert/strict";
import { test } from "node:test";
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { NdArray } from "../../src/engine/ir/nd-array.ts";
import * as ops from "../../src/engine/ops/index.ts";
import { foldHostKey, HostRandom, philox4x32 } from "../../src/engine/random.ts";
import { toOracle } from "./contract-support.ts";

test("Philox 4x32-10 gives the known answers of Random123", () => {
  const hex = (words: readonly number[]) => words.map((w) => w.toString(16).padStart(8, "0")).join(" ");
  const all = 0xffffffff;
  assert.equal(hex(philox4x32([0, 0, 0, 0], [0, 0])), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  assert.equal(hex(philox4x32([all, all, all, all], [all, all])), "408f276d 41c83b0e a20bc7c6 6d5451fd");
  assert.equal(
    hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    "d16cfe09 94fdcceb 5001e420 24126ea1",
  );
});

test("HostRandom reads the words that randomUniform gives on a device", () => {
  const key = NdArray.int32([2], [42, 0]);
  const t = ops.input(key);
  const [uniform] = evaluateOracle([t], [toOracle(key)], [ops.randomUniform(t, [9], { stream: 0 })]);
  const host = new HostRandom(42);
  assert.deepEqual(
    Array.from(uniform?.data ?? []),
    Array.from({ length: 9 }, () => host.uniform()),
  );
});

test("foldKey on the host is foldKey on a device", () => {
  const key = NdArray.int32([2], [7, -9]);
  const t = ops.input(key);
  const [folded] = evaluateOracle([t], [toOracle(key)], [ops.foldKey(t, 12345)]);
  assert.deepEqual(Array.from(folded?.data ?? []), foldHostKey([7, -9], 12345));
});

test("HostRandom continues from a saved state", () => {
  const a = new HostRandom(5);
  for (let i = 0; i < 7; i++) a.normal();
  const b = new HostRandom(JSON.parse(JSON.stringify(a.state())));
  assert.deepEqual(
    Array.from({ length: 9 }, () => a.word()),
    Array.from({ length: 9 }, () => b.word()),
  );
});

test("seeds beyond 32 bits differ; what is no integer is refused", () => {
  assert.notEqual(new HostRandom(1).word(), new HostRandom(1 + 2 ** 32).word());
  assert.throws(() => new HostRandom(0.5), { message: "seed: expected an integer, got 0.5. Fix: use e.g. 0." });
});

test("int and shuffle: in range, fair, a permutation", () => {
  const random = new HostRandom(3);
  const fair = new Array<number>(6).fill(0);
  for (let i = 0; i < 6000; i++) {
    const face = random.int(6);
    fair[face] = (fair[face] as number) + 1;
  }
  // 1000 expected, standard deviation 29.
  assert.ok(
    fair.every((n) => Math.abs(n - 1000) < 150),
    `${fair}`,
  );
  const items = random.shuffle(Array.from({ length: 50 }, (_, i) => i));
  assert.notDeepEqual(
    items,
    [...items].sort((a, b) => a - b),
  );
  assert.deepEqual(
    [...items].sort((a, b) => a - b),
    Array.from({ length: 50 }, (_, i) => i),
  );
});

test("normal values have mean 0 and variance 1, on the host and as an op", () => {
  const host = new HostRandom(11);
  const key = NdArray.int32([2], [11, 0]);
  const t = ops.input(key);
  const [op] = evaluateOracle([t], [toOracle(key)], [ops.randomNormal(t, [20_000], { stream: 1 })]);
  for (const values of [Array.from({ length: 20_000 }, () => host.normal()), Array.from(op?.data ?? [])]) {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
    assert.ok(Math.abs(mean) < 0.03 && Math.abs(variance - 1) < 0.05, `mean ${mean}, variance ${variance}`);
  }
});

test("dropout zeroes at the rate and keeps the expectation", () => {
  const key = NdArray.int32([2], [1, 2]);
  const x = NdArray.float32([10_000], new Float32Array(10_000).fill(1));
  const [k, t] = [ops.input(key), ops.input(x)];
  const [y] = evaluateOracle([k, t], [key, x].map(toOracle), [ops.dropout(t, 0.25, k, { stream: 0 })]);
  const values = Array.from(y?.data ?? []);
  assert.deepEqual([...new Set(values)].sort(), [0, Math.fround(1 / 0.75)]);
  assert.ok(Math.abs(values.reduce((a, b) => a + b, 0) / 10_000 - 1) < 0.03);
});
