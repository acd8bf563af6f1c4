import assert from "node:assert/strict";
import { rowMajorStrides, sizeOf } from "../../src/engine/ir/shape.ts";
import { assertClose, float32, int32, kernelTest, noise, noisy, rowMajor, type Value } from "./run-kernel.ts";

const f32 = (shape: readonly number[], inPlace?: number) =>
  ({ dtype: "float32", shape, ...(inPlace === undefined ? {} : { inPlace }) }) as const;
const at = (data: ArrayLike<number>, i: number): number => data[i] as number;

kernelTest("reduce: any axes, any strides", async (run) => {
  const cases: { shape: number[]; axes: number[]; strides?: number[] }[] = [
    { shape: [7, 5], axes: [0] },
    { shape: [7, 5], axes: [1] },
    { shape: [7, 5], axes: [0, 1] },
    { shape: [700, 131], axes: [0] },
    { shape: [4, 90, 33], axes: [0, 1] },
    { shape: [3, 300, 40], axes: [1] },
    { shape: [5, 6, 7], axes: [0, 2] },
    { shape: [5, 6, 7], axes: [1], strides: [7, 35, 1] },
    { shape: [50, 60], axes: [1], strides: [1, 50] },
    { shape: [50, 60], axes: [0], strides: [1, 50] },
    { shape: [9, 8], axes: [1], strides: [40, 3] },
    { shape: [2, 150000], axes: [1] },
    { shape: [1, 1], axes: [0] },
    { shape: [0, 3], axes: [0] },
    { shape: [3, 0], axes: [0] },
    { shape: [], axes: [] },
    { shape: [4, 3], axes: [] },
  ];
  for (const { shape, axes, strides } of cases) {
    const reach = strides?.reduce((sum, s, i) => sum + s * ((shape[i] as number) - 1), 1);
    const x: Value = { dtype: "float32", shape, data: noise(reach ?? sizeOf(shape), 7), ...(strides && { strides }) };
    const kept = shape.filter((_, i) => !axes.includes(i));
    const outStrides = rowMajorStrides(kept);
    const sums = new Array<number>(sizeOf(kept)).fill(0);
    const maxima = new Array<number>(sizeOf(kept)).fill(Number.NEGATIVE_INFINITY);
    for (const [i, v] of rowMajor(x).entries()) {
      let rest = i;
      const index = [...shape]
        .reverse()
        .map((n) => [rest % n, (rest = Math.floor(rest / n))][0] as number)
        .reverse();
      const to = index
        .filter((_, k) => !axes.includes(k))
        .reduce((sum, v, k) => sum + v * (outStrides[k] as number), 0);
      sums[to] = at(sums, to) + v;
      maxima[to] = Math.max(at(maxima, to), v);
    }
    const [sum] = await run({ kernel: "reduce", inputs: [x], outputs: [f32(kept)], ints: [0, ...axes] });
    const [max] = await run({ kernel: "reduce", inputs: [x], outputs: [f32(kept)], ints: [1, ...axes] });
    assertClose(sum as Float32Array, sums, 1e-5, `sum [${shape}] over [${axes}]`);
    assertClose(max as Float32Array, maxima, 0, `max [${shape}] over [${axes}]`);
  }
});

kernelTest("reduce: NaN reaches the maximum, and long sums stay accurate", async (run) => {
  for (const axes of [[0], [1]]) {
    const x = noise(300 * 300, 3);
    x[300 * 7 + 9] = Number.NaN;
    const [max] = await run({
      kernel: "reduce",
      inputs: [float32([300, 300], x)],
      outputs: [f32([300])],
      ints: [1, ...axes],
    });
    const nan = axes[0] === 0 ? 9 : 7;
    for (const [i, v] of (max as Float32Array).entries()) assert.equal(Number.isNaN(v), i === nan, `${i}`);
  }
  const n = 1 << 20;
  const ones = float32([n, 2], new Float32Array(2 * n).fill(0.1));
  const [columns] = await run({ kernel: "reduce", inputs: [ones], outputs: [f32([2])], ints: [0, 0] });
  assertClose(columns as Float32Array, [0.1 * n, 0.1 * n], 1e-6, "columns");
  const [all] = await run({ kernel: "reduce", inputs: [ones], outputs: [f32([])], ints: [0, 0, 1] });
  assertClose(all as Float32Array, [0.2 * n], 1e-6, "all");
});

kernelTest("gather and scatter_add", async (run) => {
  for (const [rows, width, n] of [
    [11, 5, 40],
    [300, 130, 70],
    [4, 1, 9],
    [3, 2, 0],
    [5, 0, 2],
  ] as const) {
    const ids = int32(
      [n],
      Array.from(noise(n, 8), (v) => Math.floor((v + 1) * 0.49999 * rows)),
    );
    const table = noisy([rows, width], 1);
    const [got] = await run({ kernel: "gather", inputs: [table, ids], outputs: [f32([n, width])] });
    const expected = Array.from(ids.data, (id) => [...table.data.slice(id * width, (id + 1) * width)]).flat();
    assertClose(got as Float32Array, expected, 0, "gather");
    const updates = noisy([n, width], 2);
    const sums = new Array<number>(rows * width).fill(0);
    ids.data.forEach((id, i) => {
      for (let k = 0; k < width; k++) sums[id * width + k] = at(sums, id * width + k) + at(updates.data, i * width + k);
    });
    const [sum] = await run({ kernel: "scatter_add", inputs: [ids, updates], outputs: [f32([rows, width])] });
    assertClose(sum as Float32Array, sums, 1e-6, "scatter_add");
  }
  const bf16: Value = { dtype: "bfloat16", shape: [2, 2], data: Uint16Array.of(0x3f80, 0x4000, 0x4040, 0x4080) };
  const ids = int32([3], [1, 0, 1]);
  const [wide] = await run({ kernel: "gather", inputs: [bf16, ids], outputs: [f32([3, 2])] });
  assertClose(wide as Float32Array, [3, 4, 1, 2, 3, 4], 0);
  const [same] = await run({ kernel: "gather", inputs: [bf16, ids], outputs: [{ dtype: "bfloat16", shape: [3, 2] }] });
  assert.deepEqual(same, Uint16Array.of(0x4040, 0x4080, 0x3f80, 0x4000, 0x4040, 0x4080));
  for (const bad of [-1, 2]) {
    const wrong = int32([2], [0, bad]);
    await assert.rejects(
      run({ kernel: "gather", inputs: [bf16, wrong], outputs: [f32([2, 2])] }),
      new RegExp(`gather: id ${bad} at position 1 is outside \\[0, 2\\)`),
    );
    await assert.rejects(
      run({ kernel: "scatter_add", inputs: [wrong, noisy([2, 2])], outputs: [f32([2, 2])] }),
      new RegExp(`scatter_add: id ${bad} at position 1 is outside \\[0, 2\\)`),
    );
  }
});

kernelTest("cache_update: rows replaced in place from a strided update", async (run) => {
  const [B, S, T, D] = [3, 9, 2, 5];
  const cache = noisy([B, S, D], 1);
  const update: Value = { dtype: "float32", shape: [B, T, D], data: noise(B * T * D, 2), strides: [D, B * D, 1] };
  const start = [0, 7, 3];
  const expected = [...cache.data];
  rowMajor(update).forEach((v, i) => {
    const [b, t, d] = [Math.floor(i / T / D), Math.floor(i / D) % T, i % D];
    expected[(b * S + at(start, b) + t) * D + d] = v;
  });
  const call = { kernel: "cache_update", inputs: [cache, update, int32([B], start)] };
  for (const inPlace of [0, undefined]) {
    const [got] = await run({ ...call, outputs: [f32([B, S, D], inPlace)] });
    assertClose(got as Float32Array, expected, 0);
  }
  await assert.rejects(
    run({ ...call, inputs: [cache, update, int32([B], [0, 8, 3])], outputs: [f32([B, S, D], 0)] }),
    /cache_update: rows 8 to 10 of batch row 1 are outside a cache of length 9/,
  );
});

kernelTest("argmax: the first largest", async (run) => {
  for (const width of [1, 5, 1000]) {
    const x = noise(4 * width, 5);
    x.copyWithin(width, 0, width);
    if (width > 4) x.set([2, 0, 2], width + 1);
    if (width > 4) x[3 * width + 4] = Number.NaN;
    const expected = [0, 1, 2, 3].map((r) => {
      const row = [...x.slice(r * width, (r + 1) * width)];
      const nan = row.findIndex(Number.isNaN);
      return nan >= 0 ? nan : row.indexOf(Math.max(...row));
    });
    const [got] = await run({
      kernel: "argmax",
      inputs: [float32([4, width], x)],
      outputs: [{ dtype: "int32", shape: [4] }],
    });
    assert.deepEqual([...(got as Int32Array)], expected);
  }
});
