import assert from "node:assert/strict";
import { test } from "node:test";
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { referenceBackend } from "../../src/engine/backends/reference.ts";
import type { DType } from "../../src/engine/ir/dtype.ts";
import { NdArray } from "../../src/engine/ir/nd-array.ts";
import { defineOp, registeredOps } from "../../src/engine/ir/op.ts";
import type { Shape } from "../../src/engine/ir/shape.ts";
import { apply1, type Tensor, withScope } from "../../src/engine/ir/tensor.ts";
import * as ops from "../../src/engine/ops/index.ts";
import { erf } from "../../src/engine/ops/special.ts";
import { concatOp } from "../../src/engine/ops/split.ts";
import { toOracle } from "./contract-support.ts";

const t = (shape: Shape, dtype: DType = "float32"): Tensor => ops.input({ shape, dtype });

function values(x: Tensor): number[] {
  return Array.from(evaluateOracle([], [], [x])[0]?.data ?? []);
}

test("shape and type errors name the op, what was expected, what came and the fix", () => {
  const cases: readonly (readonly [() => unknown, string])[] = [
    [
      () => ops.add(t([2, 3]), t([4])),
      "add: expected shapes that broadcast, got [2,3] and [4] (axis -1: 3 against 4). Fix: reshape or broadcastTo one side.",
    ],
    [
      () => ops.add(t([2]), t([2], "int32")),
      "add: expected operands of one kind, got float32[2] and int32[2]. Fix: cast one of them.",
    ],
    [
      () => ops.add(t([2], "int32"), 0.5),
      "scalar: 0.5 is not a value of int32. Fix: cast the tensor to float32 first.",
    ],
    [
      () => ops.exp(t([2], "int32")),
      'exp: expected a floating tensor, got int32[2]. Fix: convert it with cast(x, "float32").',
    ],
    [
      () => ops.matmul(t([2, 3]), t([4, 5])),
      "matmul: expected equal inner sizes, got [2,3] and [4,5] (3 against 4, after transposing). Fix: check which operand needs transposeA or transposeB.",
    ],
    [
      () => ops.matmul(t([3]), t([3, 2])),
      "matmul: expected operands with at least two axes, got [3] and [3,2]. Fix: add an axis with expandDims.",
    ],
    [
      () => ops.reshape(t([2, 3]), [4, -1]),
      "reshape: expected sizes that divide 6 elements of [2,3], got [4,-1]. Fix: check the sizes beside the -1.",
    ],
    [
      () => ops.reshape(t([2, 3]), [7]),
      "reshape: expected a shape of 6 elements for [2,3], got [7]. Fix: make the products equal, or give one axis as -1.",
    ],
    [
      () => ops.transpose(t([2, 3]), [0, 0]),
      "transpose: expected a permutation of the 2 axes of [2,3], got [0,0]. Fix: name every axis once.",
    ],
    [
      () => ops.sum(t([2, 3]), { axes: 2 }),
      "sum: expected an axis in [-2, 1], got 2. Fix: name one of the tensor's 2 axes.",
    ],
    [
      () => ops.split(t([5]), 2, { axis: 0 }),
      "split: expected a number of parts dividing 5 (axis 0 of [5]), got 2. Fix: choose a divisor, or list the sizes.",
    ],
    [
      () => ops.concat([t([2, 3]), t([2, 3], "int32")], { axis: 0 }),
      "concat: expected tensors like float32[2,3] except on axis 0, got int32[2,3]. Fix: make the other axes and the element types equal.",
    ],
    [
      () => apply1(concatOp, [t([2, 3]), t([2, 3])], { axis: 2 ** 31 }),
      "concat: expected an axis in [-2, 1], got 2147483648. Fix: name one of the tensor's 2 axes.",
    ],
    [
      () => ops.dequantize(t([0], "int32"), { format: "int4", groupSize: 64, outSize: 4, inSize: -1 }),
      "dequantize: expected a weight [out,in] of sizes from 0 up, got [4,-1]. Fix: pass the layout that quantizeWeight gave.",
    ],
    [
      () => ops.slice(t([4]), { starts: [3], limits: [9] }),
      "slice: expected 0 <= starts <= limits <= [4] on every axis, got starts [3], limits [9]. Fix: give one start and one limit per axis, inside the tensor.",
    ],
    [
      () => ops.gather(t([4, 2]), t([3])),
      'gather: expected ids of int32, got float32[3]. Fix: convert it with cast(x, "int32").',
    ],
    [
      () => ops.layerNorm(t([2, 8]), t([4]), t([8]), { eps: 1e-5 }),
      "layerNorm: expected weight of shape [8], got float32[4]. Fix: reshape it, or check which tensor was passed.",
    ],
    [
      () => ops.crossEntropy(t([3, 5]), t([4], "int32")),
      "crossEntropy: expected targets of shape [3], got int32[4]. Fix: reshape it, or check which tensor was passed.",
    ],
    [
      () => ops.attention(t([1, 2, 4, 8]), t([1, 2, 3, 8]), t([1, 2, 3, 8]), { causal: true }),
      "attention: expected a number of key-value heads dividing the 4 query heads, got 3. Fix: check numKeyValueHeads.",
    ],
    [
      () => ops.attention(t([1, 2, 4, 8]), t([1, 2, 4, 6]), t([1, 2, 4, 6]), { causal: true }),
      "attention: expected q[B,T,H,K] and k[B,S,G,K] of equal B and K, got [1,2,4,8] and [1,2,4,6]. Fix: check the head width and the batch.",
    ],
    [
      () => ops.rope(t([1, 2, 3, 5]), t([1, 2], "int32"), t([2])),
      "rope: expected an even head width K, got float32[1,2,3,5]. Fix: choose an even number of channels per head.",
    ],
    [
      () => ops.dropout(t([2]), 1, t([2], "int32"), { stream: 0 }),
      "dropout: expected a rate in [0, 1), got 1. Fix: use e.g. 0.1.",
    ],
  ];
  for (const [act, message] of cases) {
    assert.throws(act, (error: Error) => error.name === "PlinthError" && error.message === message, message);
  }
});

test("errors end with the scope of the model code", () => {
  assert.throws(() => withScope("h.3", () => withScope("mlp", () => ops.matmul(t([2, 3]), t([3, 4], "int32")))), {
    message:
      'matmul: expected a floating tensor, got int32[3,4]. Fix: convert it with cast(x, "float32"). (in h.3.mlp)',
  });
});

test("a name is registered once and needs a meaning", () => {
  const add = registeredOps().find((op) => op.name === "add");
  assert.throws(() => defineOp({ ...(add as NonNullable<typeof add>) }), {
    message: 'defineOp: "add" is defined twice.',
  });
  const { evaluate: _, ...rest } = add as NonNullable<typeof add>;
  assert.throws(() => defineOp({ ...rest, name: "nothing" }), {
    message: 'defineOp: "nothing" needs evaluate or decompose.',
  });
});

test("element types: floats widen when they differ, numbers follow the tensor, products are float32", () => {
  assert.equal(ops.add(t([2], "bfloat16"), t([2], "bfloat16")).dtype, "bfloat16");
  assert.equal(ops.add(t([2], "bfloat16"), t([2], "float16")).dtype, "float32");
  assert.equal(ops.mul(t([2], "bfloat16"), 2).dtype, "bfloat16");
  assert.equal(ops.add(t([2], "int32"), 2).dtype, "int32");
  assert.equal(ops.matmul(t([2, 2], "bfloat16"), t([2, 2], "bfloat16")).dtype, "float32");
  assert.equal(ops.sum(t([2], "float16")).dtype, "float32");
  assert.equal(ops.less(t([2], "int32"), 2).dtype, "bool");
});

test("int32 arithmetic wraps as on the device", () => {
  const max = ops.constant(Int32Array.of(2 ** 31 - 1));
  assert.deepEqual(values(ops.add(max, 1)), [-(2 ** 31)]);
  assert.deepEqual(values(ops.mul(max, max)), [1]);
  assert.deepEqual(values(ops.neg(ops.constant(Int32Array.of(5)))), [-5]);
});

test("comparisons treat NaN as IEEE 754 does", () => {
  const x = ops.constant([Number.NaN, 1]);
  assert.deepEqual(values(ops.equal(x, x)), [0, 1]);
  assert.deepEqual(values(ops.notEqual(x, x)), [1, 0]);
  assert.deepEqual(values(ops.greaterEqual(x, 1)), [0, 1]);
});

test("matmul of a batch by one weight is a single tall product", () => {
  const y = ops.matmul(t([2, 3, 4]), t([4, 5]));
  assert.deepEqual(y.shape, [2, 3, 5]);
  assert.deepEqual(y.node.inputs[0]?.shape, [6, 5]);
});

test("matmul transposes operands and broadcasts batch axes", () => {
  const a = ops.constant([1, 2, 3, 4, 5, 6], { shape: [3, 2] });
  const b = ops.constant([1, 0, 0, 1, 1, 1], { shape: [2, 3] });
  assert.deepEqual(values(ops.matmul(a, b, { transposeA: true, transposeB: true })), [1, 9, 2, 12]);
  assert.deepEqual(ops.matmul(t([5, 1, 2, 3]), t([4, 3, 6])).shape, [5, 4, 2, 6]);
});

test("reductions of nothing: 0 for sum, -inf for max", () => {
  const empty = ops.constant([], { shape: [2, 0] });
  assert.deepEqual(values(ops.sum(empty, { axes: 1 })), [0, 0]);
  assert.deepEqual(values(ops.max(empty, { axes: 1 })), [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
});

test("softmax survives large logits and crossEntropy ignores what it is told to", () => {
  const logits = ops.constant([1000, 1000, 0, 0], { shape: [2, 2] });
  assert.deepEqual(values(ops.softmax(logits)), [0.5, 0.5, 0.5, 0.5]);
  const loss = values(ops.crossEntropy(logits, ops.constant(Int32Array.of(0, -100))));
  assert.ok(Math.abs((loss[0] as number) - Math.LN2) < 1e-9);
  assert.equal(loss[1], 0);
});

test("attention with causal, grouped heads and a window equals the sums written out", () => {
  const [T, H, G, K, window] = [5, 4, 2, 3, 2];
  const wave = (n: number, shift: number) => Array.from({ length: n }, (_, i) => Math.sin(i * 1.7 + shift));
  const [q, k, v] = [wave(T * H * K, 0), wave(T * G * K, 1), wave(T * G * K, 2)];
  const of = (data: readonly number[], heads: number) => ops.constant(data, { shape: [1, T, heads, K] });
  const got = values(ops.attention(of(q, H), of(k, G), of(v, G), { causal: true, window }));
  const f = Math.fround;
  for (let row = 0; row < T; row++) {
    for (let h = 0; h < H; h++) {
      const g = Math.floor(h / (H / G));
      const weights = Array.from({ length: T }, (_, s) => {
        if (s > row || s <= row - window) return 0;
        let dot = 0;
        for (let i = 0; i < K; i++) dot += f(q[(row * H + h) * K + i] as number) * f(k[(s * G + g) * K + i] as number);
        return Math.exp(dot / Math.sqrt(K));
      });
      const total = weights.reduce((a, b) => a + b, 0);
      for (let i = 0; i < K; i++) {
        const expected = weights.reduce((sum, w, s) => sum + (w / total) * f(v[(s * G + g) * K + i] as number), 0);
        assert.ok(Math.abs((got[(row * H + h) * K + i] as number) - expected) < 1e-7);
      }
    }
  }
});

test("rope rotates by the position and keeps lengths; both pairings", () => {
  const x = ops.constant([1, 2, 3, 4], { shape: [1, 1, 1, 4] });
  const position = ops.constant(Int32Array.of(3), { shape: [1, 1] });
  const freq = ops.constant([0.5, 0.25]);
  const [a, b] = [Math.fround(1.5), 0.75];
  const rotate = (u: number, w: number, angle: number) => [
    u * Math.cos(angle) - w * Math.sin(angle),
    w * Math.cos(angle) + u * Math.sin(angle),
  ];
  const close = (got: number[], expected: number[]) =>
    assert.ok(got.every((g, i) => Math.abs(g - (expected[i] as number)) < 1e-12));
  const [p, r] = [rotate(1, 3, a), rotate(2, 4, b)] as [number[], number[]];
  close(values(ops.rope(x, position, freq)), [p[0], r[0], p[1], r[1]] as number[]);
  close(values(ops.rope(x, position, freq, { interleaved: true })), [...rotate(1, 2, a), ...rotate(3, 4, b)]);
});

test("adamw follows the formula for one step", () => {
  const one = (x: number) => ops.constant([x]);
  const step = ops.adamw(
    {
      param: one(1),
      grad: one(0.5),
      m: one(0),
      v: one(0),
      lr: 0.125,
      gradScale: 2,
      biasCorrection1: 0.5,
      biasCorrection2: 0.25,
    },
    { beta1: 0.5, beta2: 0.75, eps: 0, weightDecay: 0.5 },
  );
  // g = 1; m = 0.5; v = 0.25; p = 1 - 0.125*0.5 - 0.125/0.5 * 0.5 / (0.5/0.5)
  assert.deepEqual([step.param, step.m, step.v].flatMap(values), [1 - 0.0625 - 0.125, 0.5, 0.25]);
});

test("erf to double precision", () => {
  const known: readonly (readonly [number, number])[] = [
    [0, 0],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [2.5, 0.999593047982555],
    [3, 0.9999779095030014],
    [-1, -0.8427007929497149],
    [7, 1],
  ];
  for (const [x, y] of known) assert.ok(Math.abs(erf(x) - y) < 3e-16, `erf(${x}) = ${erf(x)}`);
});

test("gather, cacheUpdate and crossEntropy refuse what lies outside", () => {
  const ids = NdArray.int32([1], [4]);
  const x = ops.input(ids);
  const table = ops.zeros([4, 2]);
  assert.throws(() => evaluateOracle([x], [toOracle(ids)], [ops.crossEntropy(ops.zeros([1, 4]), x)]), {
    message:
      "crossEntropy: target 4 at position 0 is outside the vocabulary of 4. " +
      "Fix: check that model and tokenizer belong together.",
  });
  assert.throws(() => evaluateOracle([x], [toOracle(ids)], [ops.gather(table, x)]), {
    message: "gather: id 4 is outside the table of 4 rows. Fix: check the ids against the table.",
  });
  assert.throws(
    () => evaluateOracle([x], [toOracle(ids)], [ops.cacheUpdate(ops.zeros([1, 4, 2]), ops.zeros([1, 1, 2]), x)]),
    {
      message:
        "cacheUpdate: rows 4..5 lie outside the cache of 4. Fix: allocate a longer cache, or stop generating earlier.",
    },
  );
  assert.throws(
    () => ops.cacheUpdate(ops.zeros([1, 4]), ops.zeros([1]), x),
    /^.*cacheUpdate: expected an update \[B,T/,
  );
});

test("the reference backend consumes donated inputs, checks its inputs and yields to timers", async () => {
  const x = t([64, 64]);
  let y = x;
  for (let i = 0; i < 60; i++) y = ops.tanh(ops.matmul(y, x));
  const graph = { inputs: [x], inputNames: ["x"], outputs: [y], donated: new Set([0]) };
  const program = referenceBackend.compile(graph);
  await assert.rejects(program.run([NdArray.zeros("float32", [2, 2])]), {
    message:
      "run: expected float32[64,64] for input x, got float32[2,2]. Fix: trace again for other shapes (jit does), or convert the array.",
  });
  const array = NdArray.zeros("float32", [64, 64]);
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  await program.run([array]);
  clearInterval(timer);
  assert.ok(array.isDonated);
  assert.ok(turns > 0, "the event loop had a turn");
});

test("the reference backend rounds outputs to their element types", async () => {
  const x = ops.input({ shape: [1], dtype: "float32" });
  const outputs = [ops.cast(x, "bfloat16"), ops.cast(x, "float16"), ops.cast(x, "int32")];
  const graph = { inputs: [x], inputNames: ["x"], outputs, donated: new Set<number>() };
  const results = await referenceBackend.compile(graph).run([NdArray.float32([1], [1.7001])]);
  assert.deepEqual(
    results.map((a) => a.data[0]),
    [0x3fda, 0x3ecd, 1],
  );
});
