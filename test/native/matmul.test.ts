import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import type { DType } from "../../src/engine/ir/dtype.ts";
import { rowMajorStrides, type Shape, sizeOf } from "../../src/engine/ir/shape.ts";
import {
  addons,
  bfloat16,
  dot,
  forEachIndex,
  fromBfloat16,
  fromFloat16,
  generator,
  runKernel,
  type Value,
} from "./addon.ts";

const toNumber: Record<"float32" | "bfloat16" | "float16", (stored: number) => number> = {
  float32: (x) => x,
  bfloat16: fromBfloat16,
  float16: fromFloat16,
};

type Floating = keyof typeof toNumber;

/** A random operand of this logical shape; `order` says how its axes lie in memory, outermost first. */
function operand(
  shape: Shape,
  seed: number,
  options: { dtype?: Floating; order?: readonly number[]; gap?: number; offset?: number } = {},
): Value {
  const { dtype = "float32", order = shape.map((_, i) => i), gap = 0, offset = 3 } = options;
  const inner = order.map((axis, i) => (shape[axis] as number) + (i === order.length - 1 ? gap : 0));
  const memory = rowMajorStrides(inner);
  const strides = shape.map((_, axis) => memory[order.indexOf(axis)] as number);
  const random = generator(seed);
  const data = dtype === "float32" ? new Float32Array(sizeOf(inner) + offset) : new Uint16Array(sizeOf(inner) + offset);
  // Half-precision patterns 0x3000..0x3fff are floats between about 0.1 and 2 of either sign.
  for (let i = 0; i < data.length; i++) {
    const x = random();
    data[i] =
      dtype === "float32"
        ? x
        : dtype === "bfloat16"
          ? bfloat16(x)
          : 0x3000 + Math.floor(Math.abs(x) * 0xbff) + (x < 0 ? 0x8000 : 0);
  }
  return { dtype, shape, data, strides, offset };
}

/** Rows and columns to check: all of a small product, some of a large one. */
function sampled(n: number): number[] {
  if (n <= 48) return Array.from({ length: n }, (_, i) => i);
  return [0, 1, 13, 14, 15, 31, 32, 33, n >> 1, n - 17, n - 2, n - 1];
}

/** The operand as a product of bfloat16 operands reads it. */
function rounded(v: Value): Value {
  return { ...v, dtype: "bfloat16", data: Uint16Array.from(v.data, (x) => bfloat16(toNumber[v.dtype as Floating](x))) };
}

/** Some elements of a product in float64: their places in the result, and the sum of their terms' magnitudes. */
function expectedElements(a: Value, b: Value): readonly { place: number; value: number; magnitude: number }[] {
  const [M, K] = a.shape.slice(-2) as [number, number];
  const N = b.shape.at(-1) as number;
  const [stepA, stepB] = [a.strides?.at(-1) as number, b.strides?.at(-2) as number];
  const [readA, readB] = [toNumber[a.dtype as Floating], toNumber[b.dtype as Floating]];
  const list: { place: number; value: number; magnitude: number }[] = [];
  forEachIndex(a.shape.slice(0, -2), (lead, item) => {
    for (const m of sampled(M)) {
      const fromA = (a.offset ?? 0) + dot([...lead, m, 0], a.strides as number[]);
      for (const n of sampled(N)) {
        const fromB = (b.offset ?? 0) + dot([...lead, 0, n], b.strides as number[]);
        let value = 0;
        let magnitude = 0;
        for (let k = 0; k < K; k++) {
          const term = readA(a.data[fromA + k * stepA] as number) * readB(b.data[fromB + k * stepB] as number);
          value += term;
          magnitude += Math.abs(term);
        }
        list.push({ place: (item * M + m) * N + n, value, magnitude });
      }
    }
  });
  return list;
}

interface Case {
  readonly name: string;
  readonly a: Value;
  readonly b: Value;
}

const shapes: readonly (readonly [M: number, K: number, N: number])[] = [
  [1, 1, 1],
  [1, 7, 5],
  [3, 17, 33],
  [14, 32, 32],
  [15, 33, 31],
  [13, 5, 100],
  [2, 385, 17],
  [5, 800, 300],
  [29, 384, 65],
  [100, 769, 70],
  [61, 40, 2100],
  [2100, 20, 40],
  [2100, 20, 530],
  [70, 400, 530],
  [1, 1000, 515],
  [8, 64, 1030],
  [60, 1537, 34],
];

function cases(): Case[] {
  const list: Case[] = [];
  for (const [M, K, N] of shapes) {
    for (const [name, orderA, orderB] of [
      ["NN", [0, 1], [0, 1]],
      ["TN", [1, 0], [0, 1]],
      ["NT", [0, 1], [1, 0]],
      ["TT", [1, 0], [1, 0]],
    ] as const) {
      list.push({
        name: `${name} ${M}x${K}x${N}`,
        a: operand([M, K], 1, { order: orderA, gap: 3 }),
        b: operand([K, N], 2, { order: orderB, gap: 5 }),
      });
    }
  }
  for (const dtype of ["bfloat16", "float16"] as const) {
    for (const orderB of [
      [0, 1],
      [1, 0],
    ]) {
      for (const M of [1, 3, 30]) {
        list.push({
          name: `${dtype} ${M}x70x50, b in order ${orderB}`,
          a: operand([M, 70], 3, { dtype }),
          b: operand([70, 50], 4, { dtype, order: orderB }),
        });
      }
    }
  }
  list.push(
    { name: "float32 by bfloat16", a: operand([9, 70], 3), b: operand([70, 50], 4, { dtype: "bfloat16" }) },
    // Lines of whole words, which the tile may read without packing, and some that share too few sets of the cache for that.
    ...[80, 772, 1024, 2048].map((K) => ({
      name: `bfloat16 100x${K}x70 as it lies`,
      a: operand([100, K], 3, { dtype: "bfloat16", offset: 4 }),
      b: operand([K, 70], 4, { dtype: "bfloat16", order: [1, 0] }),
    })),
    { name: "batch", a: operand([5, 7, 19], 5), b: operand([5, 19, 23], 6) },
    {
      name: "two batch axes, heads inside",
      a: operand([2, 3, 20, 16], 5, { order: [0, 2, 1, 3] }),
      b: operand([2, 3, 16, 20], 6, { order: [0, 3, 1, 2] }),
    },
    { name: "many small", a: operand([200, 4, 8], 5), b: operand([200, 8, 4], 6) },
    { name: "larger batch", a: operand([3, 130, 140], 5), b: operand([3, 140, 150], 6, { order: [0, 2, 1] }) },
    { name: "b broadcast over the batch", a: operand([4, 6, 30], 7), b: broadcast(operand([30, 20], 8), 4) },
    { name: "a broadcast over the batch", a: broadcast(operand([6, 30], 7), 4), b: operand([4, 30, 20], 8) },
    { name: "every stride above 1", a: operand([6, 10, 2], 7), b: operand([10, 9, 2], 8) },
  );
  const [a, b] = [list.at(-1)?.a as Value, list.at(-1)?.b as Value];
  list[list.length - 1] = {
    name: "every stride above 1",
    a: { ...a, shape: [6, 10], strides: [20, 2] },
    b: { ...b, shape: [10, 9], strides: [18, 2] },
  };
  return list;
}

function broadcast(v: Value, n: number): Value {
  return { ...v, shape: [n, ...v.shape], strides: [0, ...(v.strides as number[])] };
}

function outputOf(a: Value, b: Value): { dtype: DType; shape: Shape } {
  return { dtype: "float32", shape: [...a.shape.slice(0, -1), b.shape.at(-1) as number] };
}

// Once for all variants.
const allCases = cases();
const expectations = new Map<string, ReturnType<typeof expectedElements>>();

for (const addon of addons()) {
  describe(`matmul (${addon.isa()})`, () => {
    after(() => addon.setThreads(2));

    for (const [operands, ints, read] of [
      ["operands as they are", [0], (v: Value) => v],
      ["operands rounded to bfloat16", [1], rounded],
    ] as const) {
      const product = async (a: Value, b: Value): Promise<Float32Array> => {
        const [out] = (await runKernel(addon, "matmul", [a, b], [outputOf(a, b)], { ints })) as [Float32Array];
        return out;
      };

      test(`${operands}: agrees with float64, and 1, 2 and 3 threads give the same bits`, async () => {
        for (const { name, a, b } of allCases) {
          addon.setThreads(1);
          const alone = await product(a, b);
          const key = `${operands}: ${name}`;
          const expected = expectations.get(key) ?? expectedElements(read(a), read(b));
          expectations.set(key, expected);
          for (const { place, value, magnitude } of expected) {
            const got = alone[place] as number;
            if (Math.abs(got - value) <= 1e-6 * magnitude + 1e-30) continue;
            assert.fail(`${name}: element ${place} is ${got}, expected ${value}`);
          }
          for (const threads of [2, 3]) {
            addon.setThreads(threads);
            assert.deepEqual(await product(a, b), alone, `${name} with ${threads} threads`);
          }
        }
      });

      test(`${operands}: a row does not depend on the other rows, a column not on the other columns`, async () => {
        addon.setThreads(2);
        for (const orderB of [
          [0, 1],
          [1, 0],
        ]) {
          for (const orderA of [
            [0, 1],
            [1, 0],
          ]) {
            const [M, K, N] = [150, 902, 140];
            const dtype = ints[0] === 1 ? "bfloat16" : "float32";
            const a = operand([M, K], 11, { dtype, order: orderA, offset: 4 });
            const b = operand([K, N], 12, { dtype, order: orderB });
            const whole = await product(a, b);
            for (const rows of [1, 2, 3, 4, 5, 9, 16, 70]) {
              const from = 40;
              const part = {
                ...a,
                shape: [rows, K],
                offset: (a.offset as number) + from * ((a.strides as number[])[0] as number),
              };
              const got = await product(part, b);
              assert.deepEqual(
                got,
                whole.subarray(from * N, (from + rows) * N),
                `${rows} rows, a ${orderA}, b ${orderB}`,
              );
            }
            for (const columns of [1, 3, 17, 40]) {
              const from = 37;
              const part = {
                ...b,
                shape: [K, columns],
                offset: (b.offset as number) + from * ((b.strides as number[])[1] as number),
              };
              const got = await product(a, part);
              const expected = Float32Array.from(
                { length: M * columns },
                (_, i) => whole[Math.floor(i / columns) * N + from + (i % columns)] as number,
              );
              assert.deepEqual(got, expected, `${columns} columns, a ${orderA}, b ${orderB}`);
            }
          }
        }
      });
    }

    test("epilogues and narrow outputs: what the finished sums would give, whatever the shape and the number of threads", async () => {
      const code = addon.opcodes();
      for (const operands of [0, 1]) {
        for (const [M, K, N, transposed] of [
          [1, 70, 300, false],
          [3, 1700, 90, true],
          [20, 65, 1030, false],
          [130, 40, 47, true],
          [130, 90, 75, false],
          [70, 900, 200, false],
          [9, 0, 33, false],
          [150, 9000, 50, true],
        ] as const) {
          const a = operand([2, M, K], 1);
          const b = operand([2, K, N], 2, transposed ? { order: [0, 2, 1] } : {});
          const bias = { ...operand([N], 3), shape: [2, M, N], strides: [0, 0, 1] };
          const residual = operand([2, M, N], 4, { dtype: "bfloat16", order: [0, 2, 1] });
          const shape = [2, M, N];
          const where = `${M}x${K}x${N}, operands ${operands}`;
          addon.setThreads(1);
          const types = [{ dtype: "float32", shape }] as const;
          const [sums] = (await runKernel(addon, "matmul", [a, b], types, { ints: [operands] })) as [Float32Array];
          // out0 = sum + bias in float32; out1 = gelu(sum + bias) * 0.5 + residual in bfloat16; out2 = sum in float16.
          const program = [
            [code["load"], 0, 0, 0, 0],
            [code["load"], 1, 1, 0, 0],
            [code["add"], 1, 0, 1, 0],
            [code["store"], 0, 0, 1, 0],
            [code["gelu_tanh"], 1, 1, 0, 0],
            [code["const"], 2, 0, 0, 0],
            [code["load"], 3, 2, 0, 0],
            [code["fma"], 1, 1, 2, 3],
            [code["store"], 0, 1, 1, 0],
            [code["store"], 0, 2, 0, 0],
          ] as number[][];
          const ints = (first: readonly number[]): number[] => [...first, 4, 0, program.length, ...program.flat()];
          const outputs = [
            { dtype: "float32", shape },
            { dtype: "bfloat16", shape },
            { dtype: "float16", shape },
          ] as const;
          const product: Value = { dtype: "float32", shape, data: sums };
          const expected = await runKernel(addon, "fused", [product, bias, residual], outputs, {
            ints: ints([]),
            floats: [0.5],
          });
          for (const threads of [1, 2, 3]) {
            addon.setThreads(threads);
            const attrs = { ints: ints([operands]), floats: [0.5] };
            const got = await runKernel(addon, "matmul", [a, b, bias, residual], outputs, attrs);
            assert.deepEqual(got, expected, `${where}, ${threads} threads`);
            const [narrow] = await runKernel(addon, "matmul", [a, b], [{ dtype: "float16", shape }], {
              ints: [operands],
            });
            assert.deepEqual(narrow, expected[2], `${where}, float16, ${threads} threads`);
            const [rounds] = await runKernel(addon, "matmul", [a, b], [{ dtype: "bfloat16", shape }], {
              ints: [operands],
            });
            assert.deepEqual(rounds, Uint16Array.from(sums, bfloat16), `${where}, bfloat16, ${threads} threads`);
          }
        }
      }
    });

    test("refuses what it cannot do", async () => {
      const [a, b] = [operand([3, 4], 1), operand([4, 5], 2)];
      const run = (ints: number[], dtype: DType = "float32") =>
        runKernel(addon, "matmul", [a, b], [{ dtype, shape: [3, 5] }], { ints });
      await assert.rejects(run([2]), /matmul: expected operands 0 \(as they are\) or 1 \(bfloat16\)/);
      await assert.rejects(run([0], "int32"), /matmul: expected floats/);
      await assert.rejects(run([0, 1, 1, 0]), /matmul: expected an epilogue that does not reduce/);
      await assert.rejects(run([1, 1, 0]), /matmul: expected \[operands, nRegisters, 0, nInstructions/);
    });

    test("empty products", async () => {
      const [zeros] = await runKernel(
        addon,
        "matmul",
        [operand([3, 0], 1), operand([0, 4], 2)],
        [{ dtype: "float32", shape: [3, 4] }],
      );
      assert.deepEqual(zeros, new Float32Array(12));
      const [none] = await runKernel(
        addon,
        "matmul",
        [operand([0, 3], 1), operand([3, 4], 2)],
        [{ dtype: "float32", shape: [0, 4] }],
      );
      assert.equal(none?.length, 0);
    });

    test("infinities and NaN arrive where they belong and nowhere else", async () => {
      const a = operand([20, 40], 1);
      const b = operand([40, 37], 2);
      a.data[(a.offset as number) + 5 * 40 + 7] = Number.NaN;
      b.data[(b.offset as number) + 9 * 37 + 36] = Number.POSITIVE_INFINITY;
      const [out] = (await runKernel(addon, "matmul", [a, b], [outputOf(a, b)])) as [Float32Array];
      for (const [i, x] of out.entries()) {
        assert.equal(Number.isFinite(x), Math.floor(i / 37) !== 5 && i % 37 !== 36, `element ${i}: ${x}`);
      }
    });
  });
}
