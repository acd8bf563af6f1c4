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
  value,
} from "./addon.ts";

const dtypes: readonly DType[] = ["float32", "bfloat16", "float16", "int32", "bool"];

/** Every value as a number. */
function decode(dtype: DType, stored: number): number {
  return dtype === "bfloat16" ? fromBfloat16(stored) : dtype === "float16" ? fromFloat16(stored) : stored;
}

/** Nearest float16 pattern by search, ties to even: slow and obviously right. */
function float16(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(x);
  if (magnitude >= 65520) return sign | 0x7c00;
  let low = 0;
  let high = 0x7c00;
  while (low < high - 1) {
    const middle = (low + high) >> 1;
    if (fromFloat16(middle) <= magnitude) low = middle;
    else high = middle;
  }
  const upper = low === 0x7bff ? 65536 : fromFloat16(low + 1);
  const below = magnitude - fromFloat16(low);
  const above = upper - magnitude;
  return sign | (below < above || (below === above && low % 2 === 0) ? low : low + 1);
}

function encode(dtype: DType, x: number): number {
  switch (dtype) {
    case "float32":
      return Math.fround(x);
    case "bfloat16":
      return bfloat16(x);
    case "float16":
      return float16(x);
    case "int32":
      return Math.trunc(x) + 0;
    case "bool":
      return x === 0 ? 0 : 1;
  }
}

function randomValue(dtype: DType, shape: Shape, seed: number): Value {
  const random = generator(seed);
  return value(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, () => {
      const x = random() * 300;
      return encode(dtype, dtype === "bool" && x < 0 ? 0 : x);
    }),
  );
}

function transposed(v: Value, permutation: readonly number[]): Value {
  const strides = rowMajorStrides(v.shape);
  return {
    ...v,
    shape: permutation.map((i) => v.shape[i] as number),
    strides: permutation.map((i) => strides[i] as number),
  };
}

function expectedCopy(v: Value, to: DType): number[] {
  const out: number[] = [];
  forEachIndex(v.shape, (index) => {
    const stored = v.data[(v.offset ?? 0) + dot(index, v.strides ?? rowMajorStrides(v.shape))] as number;
    out.push(v.dtype === to ? stored : encode(to, decode(v.dtype, stored)));
  });
  return out;
}

for (const addon of addons()) {
  describe(`copy, concat, pad, fill_iota (${addon.isa()})`, () => {
    after(() => addon.setThreads(2));

    test("copy follows strides and converts between all element types", async () => {
      for (const from of dtypes) {
        for (const to of dtypes) {
          const values: Value[] = [
            randomValue(from, [], 1),
            randomValue(from, [37], 2),
            randomValue(from, [0, 3], 2),
            transposed(randomValue(from, [35, 50], 3), [1, 0]),
            transposed(randomValue(from, [3, 18, 2, 20], 4), [0, 2, 1, 3]),
            transposed(randomValue(from, [3, 18, 2, 20], 5), [0, 2, 3, 1]),
            transposed(randomValue(from, [5, 33, 34], 6), [2, 0, 1]),
            { ...randomValue(from, [40], 7), shape: [3, 40], strides: [0, 1] },
            { ...randomValue(from, [40], 8), shape: [40, 5], strides: [1, 0] },
            { ...randomValue(from, [40], 9), shape: [4, 3], strides: [10, 3], offset: 2 },
          ];
          for (const v of values) {
            const [out] = await runKernel(addon, "copy", [v], [{ dtype: to, shape: v.shape }]);
            assert.deepEqual(
              Array.from(out as Float32Array),
              expectedCopy(v, to),
              `${from} to ${to}, [${v.shape}], strides ${v.strides}`,
            );
          }
        }
      }
    });

    test("narrow floats: every pattern widens, halfway cases round to even", async () => {
      const patterns = value(
        "float16",
        [65536],
        Array.from({ length: 65536 }, (_, i) => i),
      );
      const [wide] = await runKernel(addon, "copy", [patterns], [{ dtype: "float32", shape: [65536] }]);
      for (const [i, x] of (wide as Float32Array).entries()) {
        assert.ok(Object.is(x, fromFloat16(i)), `pattern ${i} gave ${x}`);
      }
      const [back] = await runKernel(
        addon,
        "copy",
        [value("float32", [65536], wide as Float32Array)],
        [{ dtype: "float16", shape: [65536] }],
      );
      (back as Uint16Array).forEach((x, i) => {
        if ((i & 0x7fff) <= 0x7c00) assert.equal(x, i, `pattern ${i}`);
        else assert.ok((x & 0x7fff) > 0x7c00, `NaN ${i} became ${x}`);
      });
      const hard = [
        1.00048828125,
        1.0014648437,
        65504,
        65519.99,
        65520,
        1e9,
        -65520,
        2 ** -24,
        2 ** -25,
        2 ** -25 * 1.0001,
        3 * 2 ** -25,
        6.1e-5,
        0,
        -0,
      ];
      for (const repeat of [1, 5]) {
        const xs = Array.from({ length: repeat }, () => hard).flat();
        const [halves] = await runKernel(
          addon,
          "copy",
          [value("float32", [xs.length], xs)],
          [{ dtype: "float16", shape: [xs.length] }],
        );
        assert.deepEqual(
          [...(halves as Uint16Array)],
          xs.map((x) => float16(Math.fround(x))),
        );
        const [brains] = await runKernel(
          addon,
          "copy",
          [value("float32", [xs.length], xs)],
          [{ dtype: "bfloat16", shape: [xs.length] }],
        );
        assert.deepEqual(
          [...(brains as Uint16Array)],
          xs.map((x) => bfloat16(x)),
        );
      }
    });

    test("large copies are the same with 1 and 2 threads", async () => {
      const v = transposed(randomValue("float32", [7, 300, 130], 1), [0, 2, 1]);
      addon.setThreads(1);
      const [alone] = await runKernel(addon, "copy", [v], [{ dtype: "float32", shape: v.shape }]);
      assert.deepEqual(Array.from(alone as Float32Array), expectedCopy(v, "float32"));
      addon.setThreads(2);
      const [shared] = await runKernel(addon, "copy", [v], [{ dtype: "float32", shape: v.shape }]);
      assert.deepEqual(shared, alone);
      const long = randomValue("float32", [100_000], 2);
      const [same] = await runKernel(addon, "copy", [long], [{ dtype: "float32", shape: [100_000] }]);
      assert.deepEqual(same, long.data);
    });

    test("concat along every axis", async () => {
      for (const dtype of dtypes) {
        for (const axis of [0, 1, 2]) {
          const sizes = [2, 1, 0, 5];
          const shapeOf = (n: number): number[] => [3, 4, 5].map((size, i) => (i === axis ? n : size));
          const parts = sizes.map((n, i) => randomValue(dtype, shapeOf(n), i));
          parts[0] = transposed(randomValue(dtype, [...shapeOf(2)].reverse(), 9), [2, 1, 0]);
          const shape = shapeOf(8);
          const [out] = await runKernel(addon, "concat", parts, [{ dtype, shape }], { ints: [axis] });
          const expected: number[] = [];
          forEachIndex(shape, (index) => {
            let at = index[axis] as number;
            const part = parts.find((v) => {
              const size = v.shape[axis] as number;
              if (at < size) return true;
              at -= size;
              return false;
            }) as Value;
            const inside = index.map((n, i) => (i === axis ? at : n));
            expected.push(part.data[dot(inside, part.strides ?? rowMajorStrides(part.shape))] as number);
          });
          assert.deepEqual(Array.from(out as Float32Array), expected, `${dtype} along ${axis}`);
        }
      }
    });

    test("pad puts zeros around", async () => {
      for (const dtype of dtypes) {
        for (const [inner, low, shape] of [
          [
            [3, 4],
            [1, 2],
            [5, 9],
          ],
          [
            [2, 3, 4],
            [0, 0, 0],
            [2, 3, 4],
          ],
          [
            [2, 3, 4],
            [1, 0, 3],
            [4, 3, 8],
          ],
          [
            [0, 3],
            [2, 0],
            [2, 3],
          ],
          [[], [], []],
        ] as const) {
          const v = randomValue(dtype, inner, 3);
          const [out] = await runKernel(addon, "pad", [v], [{ dtype, shape }], { ints: low });
          const strides = rowMajorStrides(inner);
          const expected: number[] = [];
          forEachIndex(shape, (index) => {
            const at = index.map((n, i) => n - (low[i] as number));
            const inside = at.every((n, i) => n >= 0 && n < (inner[i] as number));
            expected.push(inside ? (v.data[dot(at, strides)] as number) : 0);
          });
          assert.deepEqual(Array.from(out as Float32Array), expected, `${dtype} [${inner}] in [${shape}]`);
        }
      }
    });

    test("fill_iota counts along its axis", async () => {
      for (const dtype of ["int32", "float32"] as const) {
        for (const axis of [0, 1, 2]) {
          const shape = [3, 4, 5];
          const [out] = await runKernel(addon, "fill_iota", [], [{ dtype, shape }], { ints: [axis] });
          const expected: number[] = [];
          forEachIndex(shape, (index) => expected.push(index[axis] as number));
          assert.deepEqual(Array.from(out as Float32Array), expected);
        }
      }
    });
  });
}
