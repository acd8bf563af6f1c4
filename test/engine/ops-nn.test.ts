import assert from "node:assert/strict";
import { test } from "node:test";
import { vjp } from "../../src/engine/autodiff/index.ts";
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { jit } from "../../src/engine/compile/jit.ts";
import type { DType } from "../../src/engine/ir/dtype.ts";
import { NdArray } from "../../src/engine/ir/nd-array.ts";
import { type Shape, sizeOf } from "../../src/engine/ir/shape.ts";
import type { Tensor } from "../../src/engine/ir/tensor.ts";
import * as ops from "../../src/engine/ops/index.ts";
import { HostRandom } from "../../src/engine/random.ts";
import { assertClose } from "./contract-support.ts";

const t = (shape: Shape, dtype: DType = "float32"): Tensor => ops.input({ shape, dtype });
const values = (x: Tensor): number[] => Array.from(evaluateOracle([], [], [x])[0]?.data ?? []);

/** Values of torch.nn.functional (PyTorch 2.13, float64) for x = sin(1.7 i) as [1, 2, 3, 4] and w = cos(i) as [2, 2, 2, 2]. */
const golden: Record<string, readonly number[]> = {
  conv: [0.48031, 0.67026, 0.21472, 0.91869, 0.87384, -1.1238, 0.21786, -0.5521],
  convTranspose: [
    -0.3171, -0.06047, 0.33268, 0.34954, 0.37112, -0.44517, -0.32617, 0.10931, 0.29801, 0.51124, 0.12466, -0.54336,
    -0.25005, 0.25054, 0.18549, 0.17778, 0.4519, -0.29423, -0.07806, -0.4621, 0.19714, 0.39115, 0.27529, -0.46208,
    -0.30313, -0.33318, 0.38898, 0.50234, 0.02677, -0.50924,
  ],
  nearest: [
    0.0, 0.0, 0.99166, -0.25554, -0.92581, 0.49411, 0.49411, 0.79849, -0.69987, -0.61814, 0.99979, 0.99979, -0.10864,
    -0.9718, 0.35906, 0.87927, 0.87927, -0.58564, -0.72836, 0.77333,
  ],
  linear: [
    0.16528, 0.36806, -0.8141, 0.3171, 0.24056, -0.74117, 0.54484, 0.04931, -0.63176, 0.68719, -0.14967, -0.42334,
    0.78209, -0.28233, -0.2844, 0.81505, -0.54022, 0.13725, 0.74308, -0.58693, 0.29157, 0.63512, -0.657, 0.52305,
    0.42762, -0.6241, 0.67255, 0.28929, -0.60217, 0.77222,
  ],
  "linear, corners": [
    0.0, 0.36806, -0.92581, 0.24706, 0.20868, -0.77198, 0.49411, 0.04931, -0.61814, 0.67664, -0.11651, -0.38357,
    0.85916, -0.28233, -0.149, 0.99979, -0.54022, 0.35906, 0.93953, -0.59861, 0.56619, 0.87927, -0.657, 0.77333,
    0.70418, -0.62958, 0.87946, 0.52908, -0.60217, 0.9856,
  ],
  cubic: [
    0.04669, 0.86559, 0.43767, -0.63798, -0.90453, 0.81283, 0.72247, -0.31085, -0.88413, -0.20357, 1.0571, 0.20683,
    -0.8093, -0.62772, 0.52913, 0.69271, -0.49813, -0.8806, 0.04017, 1.03326,
  ],
  "cubic, corners": [
    0.0, 0.89853, 0.52387, -0.53894, -0.92581, 0.85916, 0.64475, -0.40184, -0.92058, -0.149, 0.99979, 0.23353, -0.7689,
    -0.76131, 0.35906, 0.52908, -0.64856, -0.85708, 0.06025, 0.9856,
  ],
  avgPool: [0.25381, -0.0788, 0.28317, -0.13702, 0.13164, -0.14023, -0.00966, -0.08438],
  "avgPool, inside only": [0.57107, -0.1182, 0.63713, -0.20553, 0.2962, -0.21034, -0.02174, -0.12657],
  maxPool: [
    0.99166, 0.99166, 0.99166, 0.99166, 0.85916, 0.79849, 0.85916, 0.39674, 0.99979, 0.35906, 0.99979, 0.77333, 0.87927,
    0.9856, 0.52908, 0.9856,
  ],
  groupNorm: [
    0.07469, 0.7769, -0.10626, -0.58088, 0.42458, 0.64011, -0.42089, -0.36302, 0.68307, 0.35563, -0.60608, -0.03082,
    1.73061, -1.40894, -3.85378, -0.08422, 1.38925, -2.76001, -3.16426, 1.08916, 0.39736, -3.6778, -1.93587, 1.69041,
  ],
  l2Normalize: [
    0.0, 0.99405, -0.25431, -0.93234, 0.4899, 0.80637, -0.69287, -0.62437, 0.8515, 0.39977, -0.9561, -0.14948, 1.0,
    -0.1089, -0.96712, 0.36159, 0.87178, -0.59142, -0.72107, 0.78113, 0.52436, -0.91662, -0.29305, 0.98877,
  ],
  batchNorm: [
    0.10428, 0.83659, -0.08443, -0.5794, 0.46917, 0.69394, -0.41255, -0.35219, 0.73874, 0.39726, -0.60568, -0.00575,
    1.52179, -1.50822, -3.86777, -0.22973, 1.19233, -2.81216, -3.20231, 0.90272, 0.23505, -3.69793, -2.01677, 1.48299,
  ],
  mish: [
    0.0, 0.85636, -0.13235, -0.29802, 0.37004, 0.65819, -0.26785, -0.25111, 0.71943, 0.28631, -0.30085, -0.08226,
    0.86488, -0.06139, -0.30159, 0.2552, 0.73995, -0.24351, -0.27291, 0.6331, 0.40122, -0.29657, -0.14895, 0.85001,
  ],
  logSumExp: [1.58236, 1.58859, 1.62769, 1.69105, 1.72554, 1.70914],
};

test("convolution, pooling, interpolation and norms give what PyTorch gives", () => {
  const x = ops.constant(
    Float32Array.from({ length: 24 }, (_, i) => Math.sin(1.7 * i)),
    { shape: [1, 2, 3, 4] },
  );
  const w = ops.constant(
    Float32Array.from({ length: 16 }, (_, i) => Math.cos(i)),
    { shape: [2, 2, 2, 2] },
  );
  const [weight, bias] = [ops.constant([0.5, 2]), ops.constant([0.1, -1])];
  const { count, ...statistics } = ops.batchStatistics(x);
  assert.equal(count, 12);
  const results: Record<string, Tensor> = {
    conv: ops.conv(x, w, { stride: [2, 1], padding: [1, 0], dilation: [1, 2] }),
    convTranspose: ops.convTranspose(x, w, { stride: [2, 1], padding: 1, outputPadding: [1, 0] }),
    nearest: ops.interpolate(x, { size: [2, 5], mode: "nearest" }),
    linear: ops.interpolate(x, { size: [5, 3], mode: "linear" }),
    "linear, corners": ops.interpolate(x, { size: [5, 3], mode: "linear", alignCorners: true }),
    cubic: ops.interpolate(x, { size: [2, 5], mode: "cubic" }),
    "cubic, corners": ops.interpolate(x, { size: [2, 5], mode: "cubic", alignCorners: true }),
    avgPool: ops.avgPool(x, { kernel: 3, stride: 2, padding: 1 }),
    "avgPool, inside only": ops.avgPool(x, { kernel: 3, stride: 2, padding: 1, countIncludePad: false }),
    maxPool: ops.maxPool(x, { kernel: [2, 3], stride: [1, 2], padding: 1 }),
    groupNorm: ops.groupNorm(x, weight, bias, { groups: 1, eps: 1e-5 }),
    l2Normalize: ops.l2Normalize(x, { axis: 1 }),
    batchNorm: ops.batchNorm(x, { weight, bias, ...statistics }, { eps: 1e-5 }),
    mish: ops.mish(x),
    logSumExp: ops.logSumExp(x, { axes: -1 }),
  };
  assert.deepEqual(Object.keys(results).sort(), Object.keys(golden).sort());
  for (const [name, result] of Object.entries(results)) assertClose(values(result), golden[name] ?? [], 2e-5, name);
});

test("a convolution's padding may differ by side, and a bias is added per channel", () => {
  const x = ops.constant([1, 2, 3], { shape: [1, 1, 3] });
  const w = ops.constant([1, 10], { shape: [1, 1, 2] });
  assert.deepEqual(values(ops.conv(x, w, { padding: [[1, 0]] })), [10, 21, 32]);
  assert.deepEqual(values(ops.conv(x, w, { padding: [[0, 1]], bias: ops.constant([0.5]) })), [21.5, 32.5, 3.5]);
});

test("a sample's convolution has the same bits in any batch", async () => {
  const random = new HostRandom(3);
  const fill = (shape: Shape): NdArray =>
    NdArray.float32(
      shape,
      Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
    );
  for (const groups of [1, 2, 8]) {
    const weight = fill([8, 8 / groups, 3, 3]);
    const x = fill([9, 8, 23, 29]);
    const one = new NdArray("float32", [1, 8, 23, 29], x.data.slice(4 * 8 * 23 * 29, 5 * 8 * 23 * 29));
    const run = jit((a: Tensor, w: Tensor) => {
      const y = ops.conv(a, w, { stride: 2, padding: 1, groups });
      return [y, vjp([y], [ops.sin(y)], [a])[0] as Tensor];
    });
    const [all, alone] = [await run(x, weight), await run(one, weight)];
    alone.forEach((part, i) => {
      const whole = all[i] as NdArray;
      const size = part.data.length;
      assert.deepEqual(part.data, whole.data.slice(4 * size, 5 * size), `groups ${groups}, output ${i}`);
    });
  }
});

test("the gradient of interpolate is its adjoint", () => {
  const random = new HostRandom(5);
  const normal = (shape: Shape): Tensor =>
    ops.constant(
      Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
      { shape },
    );
  for (const mode of ["nearest", "linear", "cubic"] as const) {
    const [x, dy] = [normal([2, 3, 5, 7]), normal([2, 3, 8, 4])];
    const y = ops.interpolate(x, { size: [8, 4], mode });
    const [dx] = vjp([y], [dy], [x]) as [Tensor];
    const [[left], [right]] = [values(ops.sum(ops.mul(y, dy))), values(ops.sum(ops.mul(x, dx)))];
    assert.ok(Math.abs((left as number) - (right as number)) < 1e-9, mode);
  }
});

test("topK, sort and argsort: ties keep their order, NaN counts as largest", async () => {
  const x = NdArray.float32([7], [2, Number.NaN, 3, 1, 3, -1, 2]);
  const run = jit((a: Tensor) => ({
    top: ops.topK(a, 3),
    up: ops.argsort(a),
    down: ops.sort(a, { descending: true }).indices,
  }));
  const { top, up, down } = await run(x);
  assert.deepEqual([...top.values.data], [Number.NaN, 3, 3]);
  assert.deepEqual([...top.indices.data], [1, 2, 4]);
  assert.deepEqual([...up.data], [5, 3, 0, 6, 2, 4, 1]);
  assert.deepEqual([...down.data], [1, 2, 4, 0, 6, 3, 5]);
});

test("scatterAlong adds or replaces; cumsum, min, argmin and oneHot by hand", () => {
  const x = ops.constant([1, 2, 3, 4], { shape: [1, 4] });
  const at = ops.constant(Int32Array.from([3, 1, 3]), { shape: [1, 3] });
  const by = ops.constant([10, 20, 30], { shape: [1, 3] });
  assert.deepEqual(values(ops.scatterAlong(x, at, by, { axis: 1, mode: "add" })), [1, 22, 3, 44]);
  assert.deepEqual(values(ops.scatterAlong(x, at, by, { axis: 1, mode: "replace" })), [1, 20, 3, 30]);
  assert.deepEqual(values(ops.takeAlong(x, at, { axis: -1 })), [4, 2, 4]);
  assert.deepEqual(values(ops.cumsum(x, { axis: 1 })), [1, 3, 6, 10]);
  assert.deepEqual(values(ops.cumsum(x, { axis: 1, exclusive: true, reverse: true })), [9, 7, 4, 0]);
  assert.deepEqual(values(ops.min(x)), [1]);
  assert.deepEqual(values(ops.argmin(x)), [0]);
  assert.deepEqual(values(ops.oneHot(ops.constant(Int32Array.from([1, -1])), 3)), [0, 1, 0, 0, 0, 0]);
  assertClose(values(ops.softplus(ops.constant([-200, 0, 200]))), [0, Math.log(2), 200], 1e-12, "softplus");
});

test("errors name the op, what was expected, what came and the fix", () => {
  const cases: readonly (readonly [() => unknown, string])[] = [
    [
      () => ops.conv(t([1, 4, 5]), t([6, 3, 3])),
      "conv: expected weight[O, 4 / groups, ...] with groups dividing both, got weight [6,3,3] and groups 1. Fix: check groups, and which tensor is the weight.",
    ],
    [
      () => ops.conv(t([1, 4, 5]), t([6, 4, 3]), { stride: [1, 2] }),
      "conv: expected 1 numbers, one per spatial axis, got [1,2]. Fix: list every axis.",
    ],
    [
      () => ops.convTranspose(t([1, 4, 5]), t([4, 4, 3]), { outputPadding: 1 }),
      "convTranspose: expected outputPadding below the stride 1, got 1. Fix: lower it, or pad the result.",
    ],
    [
      () => ops.maxPool(t([1, 1, 2]), { kernel: 2, padding: 2 }),
      "maxPool: expected an element in every window, got padding 2 and 2 for windows of 2. Fix: lower the padding.",
    ],
    [
      () => ops.interpolate(t([1, 1, 2]), { size: [4, 4], mode: "linear" }),
      "interpolate: expected 1 sizes for x[N, C, ...], got [4,4] for [1,1,2]. Fix: give one size per spatial axis.",
    ],
    [
      () => ops.topK(t([2, 3]), 4),
      "topK: expected 0 <= k <= 3, got k = 4 of float32[2,3]. Fix: lower k, or pad the rows.",
    ],
    [
      () => ops.takeAlong(t([2, 3]), t([3, 2], "int32"), { axis: 1 }),
      "takeAlong: expected indices like [2,3] except on axis 1, got int32[3,2]. Fix: broadcast the indices.",
    ],
    [
      () => ops.groupNorm(t([2, 3, 4]), t([3]), t([3]), { groups: 2, eps: 1e-5 }),
      "groupNorm: expected x[N, C, ...] with groups dividing C, got [2,3,4] and 2. Fix: check groups.",
    ],
  ];
  for (const [act, message] of cases) assert.throws(act, { message });
});
