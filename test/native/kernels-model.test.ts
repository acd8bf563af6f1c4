import assert from "node:assert/strict";
import { assertClose, float32, int32, kernelTest, noise, noisy, rowMajor, type Value } from "./run-kernel.ts";

const f32 = (shape: readonly number[], inPlace?: number) =>
  ({ dtype: "float32", shape, ...(inPlace === undefined ? {} : { inPlace }) }) as const;
const at = (data: ArrayLike<number>, i: number): number => data[i] as number;

kernelTest("layer_norm, rms_norm and their gradients", async (run) => {
  for (const [rows, width] of [
    [3, 7],
    [65, 384],
    [200, 33],
    [1, 1],
    [0, 4],
  ] as const) {
    const eps = 1e-5;
    const x = noisy([rows, width], 1, 3);
    const weight = noisy([width], 2);
    const bias = noisy([width], 3);
    const dy = noisy([rows, width], 4);
    for (const centred of [true, false]) {
      const y: number[] = [];
      const dx: number[] = [];
      const dweight = new Array<number>(width).fill(0);
      const dbias = new Array<number>(width).fill(0);
      const means: number[] = [];
      const rstds: number[] = [];
      for (let r = 0; r < rows; r++) {
        const row = [...x.data.slice(r * width, (r + 1) * width)];
        const mean = centred ? row.reduce((a, b) => a + b, 0) / width : 0;
        const rstd = 1 / Math.sqrt(row.reduce((a, b) => a + (b - mean) ** 2, 0) / width + eps);
        const normal = row.map((v) => (v - mean) * rstd);
        const g = normal.map((_, i) => at(dy.data, r * width + i) * at(weight.data, i));
        const meanG = centred ? g.reduce((a, b) => a + b, 0) / width : 0;
        const meanGn = g.reduce((a, b, i) => a + b * at(normal, i), 0) / width;
        normal.forEach((n, i) => {
          y.push(n * at(weight.data, i) + (centred ? at(bias.data, i) : 0));
          dx.push(rstd * (at(g, i) - meanG - n * meanGn));
          dweight[i] = at(dweight, i) + at(dy.data, r * width + i) * n;
          dbias[i] = at(dbias, i) + at(dy.data, r * width + i);
        });
        means.push(mean);
        rstds.push(rstd);
      }
      const full = f32([rows, width]);
      const perRow = f32([rows]);
      const perColumn = f32([width]);
      if (centred) {
        const [a, m, s] = await run({
          kernel: "layer_norm",
          inputs: [x, weight, bias],
          outputs: [full, perRow, perRow],
          floats: [eps],
        });
        assertClose(a as Float32Array, y, 1e-5, "y");
        assertClose(m as Float32Array, means, 1e-6, "mean");
        assertClose(s as Float32Array, rstds, 1e-5, "rstd");
        const inputs = [x, weight, float32([rows], means), float32([rows], rstds), dy];
        const [b, w, c] = await run({ kernel: "layer_norm_grad", inputs, outputs: [full, perColumn, perColumn] });
        assertClose(b as Float32Array, dx, 2e-5, "dx");
        assertClose(w as Float32Array, dweight, 1e-5, "dweight");
        assertClose(c as Float32Array, dbias, 1e-5, "dbias");
      } else {
        const [a, s] = await run({ kernel: "rms_norm", inputs: [x, weight], outputs: [full, perRow], floats: [eps] });
        assertClose(a as Float32Array, y, 1e-5, "y");
        assertClose(s as Float32Array, rstds, 1e-5, "rstd");
        const [b, w] = await run({
          kernel: "rms_norm_grad",
          inputs: [x, weight, float32([rows], rstds), dy],
          outputs: [full, perColumn],
        });
        assertClose(b as Float32Array, dx, 2e-5, "dx");
        assertClose(w as Float32Array, dweight, 1e-5, "dweight");
      }
    }
  }
});

kernelTest("cross_entropy and its gradient", async (run) => {
  for (const [rows, width] of [
    [5, 3],
    [7, 1000],
    [3, 9001],
    [2, 1],
    [0, 5],
  ] as const) {
    const logits = noise(rows * width, 1, 20);
    const targets = Array.from({ length: rows }, (_, r) => (r === 1 ? -100 : (r * 7919) % width));
    if (width > 4) logits[0] = Number.NEGATIVE_INFINITY;
    if (width > 4) logits[width + 3] = 1e4; // far above the rest, in another block than the start
    const dloss = noisy([rows], 3);
    const loss: number[] = [];
    const lse: number[] = [];
    const grad: number[] = [];
    for (let r = 0; r < rows; r++) {
      const row = [...logits.slice(r * width, (r + 1) * width)];
      const top = Math.max(...row);
      const l = top + Math.log(row.reduce((a, b) => a + Math.exp(b - top), 0));
      const t = at(targets, r);
      lse.push(l);
      loss.push(t === -100 ? 0 : l - at(row, t));
      grad.push(...row.map((v, i) => (t === -100 ? 0 : at(dloss.data, r) * (Math.exp(v - l) - (i === t ? 1 : 0)))));
    }
    const x = float32([rows, width], logits);
    const t = int32([rows], targets);
    const [a, b] = await run({
      kernel: "cross_entropy",
      inputs: [x, t],
      outputs: [f32([rows]), f32([rows])],
      ints: [-100],
    });
    if (loss.length > 0 && targets[0] === 0 && width > 4)
      assert.equal(at(a as Float32Array, 0), Number.POSITIVE_INFINITY);
    assertClose(a as Float32Array, loss, 1e-5, "loss");
    assertClose(b as Float32Array, lse, 1e-6, "lse");
    const inputs = [x, t, float32([rows], lse), dloss];
    for (const inPlace of [undefined, 0]) {
      const [g] = await run({
        kernel: "cross_entropy_grad",
        inputs,
        outputs: [f32([rows, width], inPlace)],
        ints: [-100],
      });
      assertClose(g as Float32Array, grad, 1e-5, "dlogits");
    }
  }
  await assert.rejects(
    run({
      kernel: "cross_entropy",
      inputs: [noisy([2, 3]), int32([2], [0, 3])],
      outputs: [f32([2]), f32([2])],
      ints: [-100],
    }),
    /cross_entropy: target 3 at position 1 is outside \[0, 3\)/,
  );
});

kernelTest("adamw: one step, in place", async (run) => {
  const n = 20011;
  const [param, grad, m] = [noisy([n], 1), noisy([n], 2), noisy([n], 3, 0.1)];
  const v = float32([n], noise(n, 4, 0.1).map(Math.abs));
  const [lr, gradScale, correction1, correction2] = [0.01, 0.5, 0.19, 0.002];
  const [beta1, beta2, eps, weightDecay] = [0.9, 0.999, 1e-8, 0.1];
  const scalars = [lr, gradScale, correction1, correction2].map((value) => float32([], [value]));
  const outputs = [f32([n], 0), f32([n], 2), f32([n], 3)];
  const [p2, m2, v2] = await run({
    kernel: "adamw",
    inputs: [param, grad, m, v, ...scalars],
    outputs,
    floats: [beta1, beta2, eps, weightDecay],
  });
  const expected: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < n; i++) {
    const g = at(grad.data, i) * gradScale;
    const first = beta1 * at(m.data, i) + (1 - beta1) * g;
    const second = beta2 * at(v.data, i) + (1 - beta2) * g * g;
    const step = ((lr / correction1) * first) / (Math.sqrt(second) / Math.sqrt(correction2) + eps);
    expected[0].push(at(param.data, i) * (1 - lr * weightDecay) - step);
    expected[1].push(first);
    expected[2].push(second);
  }
  assertClose(p2 as Float32Array, expected[0], 1e-5, "param");
  assertClose(m2 as Float32Array, expected[1], 1e-6, "m");
  assertClose(v2 as Float32Array, expected[2], 1e-6, "v");
});

kernelTest("sum_squares over several tensors", async (run) => {
  const inputs = [noisy([5], 1), noisy([300, 257], 2), noisy([0], 3), noisy([], 4)];
  const [sum] = await run({ kernel: "sum_squares", inputs, outputs: [f32([inputs.length])] });
  const expected = inputs.map((x) => [...x.data].reduce((a, b) => a + b * b, 0));
  assertClose(sum as Float32Array, expected, 1e-6);
});

kernelTest("random_bits: Philox 4x32-10's published vectors; uniform and folded keys agree with it", async (run) => {
  // Known-answer vectors of Random123 (Salmon et al. 2011) whose counters this kernel can reach: (0, 0, 0, 0) under key
  // (0, 0).
  const bits = async (key: number[], size: number, stream = 0) =>
    (
      await run({
        kernel: "random_bits",
        inputs: [int32([2], key)],
        outputs: [{ dtype: "int32", shape: [size] }],
        ints: [stream],
      })
    )[0];
  const first = Array.from((await bits([0, 0], 4)) as Int32Array, (x) => (x >>> 0).toString(16));
  assert.deepEqual(first, ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
  const key = [123456789, -987654321];
  const many = (await bits(key, 50003, 5)) as Int32Array;
  for (const i of [0, 1, 63, 64, 16384, 50002])
    assert.equal(many[i], at(philox(key, Math.floor(i / 4), 5, 0), i % 4), `${i}`);
  const [uniform] = await run({
    kernel: "random_uniform",
    inputs: [int32([2], key)],
    outputs: [f32([50003])],
    ints: [5],
  });
  assertClose(
    uniform as Float32Array,
    Array.from(many, (x) => (x >>> 8) / 2 ** 24),
    0,
  );
  const [folded] = await run({
    kernel: "fold_key",
    inputs: [int32([2], key), int32([], [-7])],
    outputs: [{ dtype: "int32", shape: [2] }],
  });
  assert.deepEqual([...(folded as Int32Array)], philox(key, -7, 0, 1).slice(0, 2));
});

/** One block of Philox 4x32-10 with counter (n, 0, stream, last). */
function philox(key: readonly number[], n: number, stream: number, last: number): number[] {
  let [a, b, c, d] = [BigInt.asUintN(32, BigInt(n)), 0n, BigInt(stream), BigInt(last)];
  let [k0, k1] = [BigInt.asUintN(32, BigInt(at(key, 0))), BigInt.asUintN(32, BigInt(at(key, 1)))];
  const low = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const p = 0xd2511f53n * a;
    const q = 0xcd9e8d57n * c;
    [a, b, c, d] = [(q >> 32n) ^ b ^ k0, q & low, (p >> 32n) ^ d ^ k1, p & low];
    k0 = (k0 + 0x9e3779b9n) & low;
    k1 = (k1 + 0xbb67ae85n) & low;
  }
  return [a, b, c, d].map((x) => Number(BigInt.asIntN(32, x)));
}

kernelTest("rope: both layouts, strided, inverse, far positions", async (run) => {
  const [B, T, H] = [2, 3, 2];
  for (const K of [2, 6, 64]) {
    const x: Value = {
      dtype: "float32",
      shape: [B, T, H, K],
      data: noise(B * T * H * K, 1),
      strides: [T * K, K, B * T * K, 1],
    };
    const positions = int32([B, T], [0, 1, 2, 77, 4095, 100000]);
    const invFreq = float32(
      [K / 2],
      Array.from({ length: K / 2 }, (_, i) => 10000 ** ((-2 * i) / K)),
    );
    const source = rowMajor(x);
    for (const interleaved of [0, 1]) {
      const expected = new Array<number>(source.length);
      for (let row = 0; row < B * T * H; row++) {
        for (let i = 0; i < K / 2; i++) {
          const angle = at(positions.data, Math.floor(row / H)) * at(invFreq.data, i);
          const [p, q] = interleaved ? [2 * i, 2 * i + 1] : [i, i + K / 2];
          const [a, b] = [at(source, row * K + p), at(source, row * K + q)];
          expected[row * K + p] = a * Math.cos(angle) - b * Math.sin(angle);
          expected[row * K + q] = b * Math.cos(angle) + a * Math.sin(angle);
        }
      }
      const outputs = [f32([B, T, H, K])];
      const [y] = await run({ kernel: "rope", inputs: [x, positions, invFreq], outputs, ints: [0, interleaved] });
      assertClose(y as Float32Array, expected, 5e-7, "rope");
      const turned = float32([B, T, H, K], y as Float32Array);
      const [back] = await run({
        kernel: "rope",
        inputs: [turned, positions, invFreq],
        outputs,
        ints: [1, interleaved],
      });
      assertClose(back as Float32Array, source, 5e-7, "inverse");
    }
  }
});

kernelTest("kernels that may write over an input give the same bits when they do", async (run) => {
  const [rows, width] = [37, 50];
  const full = [rows, width];
  const [x, dy] = [noisy(full, 1), noisy(full, 2)];
  const [weight, bias] = [noisy([width], 3), noisy([width], 4)];
  const perRow = noisy([rows], 5);
  const heads = [2, 3, 4, 10];
  const rotated = [noisy(heads, 6), int32([2, 3], [0, 1, 2, 50, 51, 52]), noisy([5], 7)];
  const [row, column] = [f32([rows]), f32([width])];
  const calls = [
    { kernel: "layer_norm", inputs: [x, weight, bias], rest: [row, row], over: [0], floats: [1e-5] },
    { kernel: "rms_norm", inputs: [x, weight], rest: [row], over: [0], floats: [1e-5] },
    { kernel: "layer_norm_grad", inputs: [x, weight, perRow, perRow, dy], rest: [column, column], over: [0, 4] },
    { kernel: "rms_norm_grad", inputs: [x, weight, perRow, dy], rest: [column], over: [0, 3] },
    { kernel: "rope", inputs: rotated, rest: [], over: [0], ints: [0, 0] },
    { kernel: "rope", inputs: rotated, rest: [], over: [0], ints: [0, 1] },
  ];
  for (const { over, rest, ...call } of calls) {
    const shape = (call.inputs[0] as Value).shape;
    const apart = await run({ ...call, outputs: [f32(shape), ...rest] });
    for (const input of over) assert.deepEqual(await run({ ...call, outputs: [f32(shape, input), ...rest] }), apart);
  }
});
