import assert from "node:assert/strict";
import { test } from "node:test";
import { loadNative } from "../../src/engine/backends/load-native.ts";
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "../../src/engine/ir/convert.ts";
import { sizeOf } from "../../src/engine/ir/shape.ts";
import { type OpcodeName, opcodeOperands, opcodes } from "../../src/engine/ops/opcodes.ts";
import {
  assertClose,
  type Call,
  float32,
  int32,
  kernelTest,
  noise,
  noisy,
  usableIsas,
  type Value,
} from "./run-kernel.ts";

type Step = readonly [op: OpcodeName, dst: number, a?: number, b?: number, c?: number];

function fused(
  inputs: readonly Value[],
  outputs: Call["outputs"],
  steps: readonly Step[],
  options: { reduce?: number; floats?: readonly number[] } = {},
): Call {
  const registers =
    1 + Math.max(...steps.map(([op, dst]) => (op.startsWith("store") || op.startsWith("reduce") ? 0 : dst)));
  return {
    kernel: "fused",
    inputs,
    outputs,
    ints: [
      registers,
      options.reduce ?? 0,
      steps.length,
      ...steps.flatMap(([op, dst, a = 0, b = 0, c = 0]) => [opcodes[op], dst, a, b, c]),
    ],
    floats: options.floats ?? [],
  };
}
const f32 = (shape: readonly number[], inPlace?: number) =>
  ({ dtype: "float32", shape, ...(inPlace === undefined ? {} : { inPlace }) }) as const;

test("opcodes: the TypeScript and C++ tables agree", () => {
  for (const isa of usableIsas()) assert.deepEqual(loadNative(isa).opcodes(), { ...opcodes });
  assert.deepEqual(Object.keys(opcodeOperands), Object.keys(opcodes));
});

function erf(x: number): number {
  if (x < 0) return -erf(-x);
  if (x > 6) return 1;
  if (x > 3) {
    let fraction = 0; // continued fraction of the complement
    for (let n = 60; n > 0; n--) fraction = n / 2 / (x + fraction);
    return 1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
  }
  let sum = 0;
  let term = x;
  for (let n = 0; n < 100; n++) {
    sum += term / (2 * n + 1);
    term *= (-x * x) / (n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const gelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const geluErf = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));
const slope = (f: (x: number) => number) => (x: number) => (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;

const unary: Partial<Record<OpcodeName, (x: number) => number>> = {
  neg: (x) => -x,
  abs: Math.abs,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  square: (x) => x * x,
  tanh: Math.tanh,
  sigmoid,
  sin: Math.sin,
  cos: Math.cos,
  erf,
  floor: Math.floor,
  sign: Math.sign,
  gelu_tanh: gelu,
  gelu_erf: geluErf,
  silu: (x) => x * sigmoid(x),
  relu: (x) => Math.max(x, 0),
  not: (x) => (x === 0 ? 1 : 0),
  gelu_tanh_grad: slope(gelu),
  gelu_erf_grad: slope(geluErf),
  silu_grad: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))),
  gelu_tanh_gate: (x) => sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)),
  gelu_erf_gate: (x) => 0.5 * (1 + erf(x / Math.SQRT2)),
  round_bf16: (x) => bfloat16ToNumber(numberToBfloat16(x)),
  round_f16: (x) => float16ToNumber(numberToFloat16(x)),
};
const bool = (x: boolean): number => (x ? 1 : 0);
const binary: Partial<Record<OpcodeName, (x: number, y: number) => number>> = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  max: Math.max,
  min: Math.min,
  pow: (x, y) => x ** y,
  gelu_tanh_slope: (x, gate) => gate + Math.sqrt(8 / Math.PI) * x * (1 + 3 * 0.044715 * x * x) * gate * (1 - gate),
  gelu_erf_slope: (x, gate) => gate + (x * Math.exp(-x * x * 0.5)) / Math.sqrt(2 * Math.PI),
  silu_slope: (x, gate) => gate * (1 + x * (1 - gate)),
  lt: (x, y) => bool(x < y),
  le: (x, y) => bool(x <= y),
  eq: (x, y) => bool(x === y),
  ne: (x, y) => bool(x !== y),
  gt: (x, y) => bool(x > y),
  ge: (x, y) => bool(x >= y),
  and: (x, y) => bool(x !== 0 && y !== 0),
  or: (x, y) => bool(x !== 0 || y !== 0),
};
const integer: Partial<Record<OpcodeName, (x: number, y: number) => number>> = {
  iadd: (x, y) => (x + y) | 0,
  isub: (x, y) => (x - y) | 0,
  imul: Math.imul,
  idiv: (x, y) => (y === 0 ? 0 : (x / y) | 0),
  irem: (x, y) => (y === 0 ? 0 : (x % y) | 0),
  imax: Math.max,
  imin: Math.min,
};
const integerCompare: Partial<Record<OpcodeName, (x: number, y: number) => number>> = {
  ilt: (x, y) => bool(x < y),
  ile: (x, y) => bool(x <= y),
  ieq: (x, y) => bool(x === y),
};

test("opcodes: every opcode has a value test here", () => {
  const rest = ["load", "load_int", "const", "const_int", "store", "store_int", "reduce_sum", "reduce_max"];
  const tested = [unary, binary, integer, integerCompare].flatMap((table) => Object.keys(table));
  const all = [...tested, ...rest, "select", "fma", "int_to_float", "float_to_int"];
  assert.deepEqual(all.sort(), Object.keys(opcodes).sort());
});

kernelTest("fused: unary opcodes", async (run) => {
  for (const [name, f] of Object.entries(unary)) {
    for (const scale of [1, 8]) {
      const x = noise(1003, 3, scale);
      x.set([0, -0, Number.NaN, Number.POSITIVE_INFINITY, 1]);
      const [y] = await run(
        fused(
          [float32([1003], x)],
          [f32([1003])],
          [
            ["load", 0, 0],
            [name as OpcodeName, 1, 0],
            ["store", 0, 0, 1],
          ],
        ),
      );
      const expected = Array.from(x, f);
      if (name.includes("grad")) expected[3] = (y as Float32Array)[3] as number; // finite differences have no value at infinity
      assertClose(y as Float32Array, expected, 2e-6 * (name.includes("grad") ? 5 : 1), name);
    }
  }
});

kernelTest("fused: an activation and its gradient of one value have the bits of each alone", async (run) => {
  const x = noise(2100, 7, 6);
  x.set([0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 30, -30]);
  for (const name of ["gelu_tanh", "gelu_erf", "silu"] as const) {
    const one = (op: OpcodeName): Step[] => [
      ["load", 0, 0],
      [op, 1, 0],
      ["store", 0, 0, 1],
    ];
    const [value] = await run(fused([float32([2100], x)], [f32([2100])], one(name)));
    const [grad] = await run(fused([float32([2100], x)], [f32([2100])], one(`${name}_grad`)));
    const both: Step[] = [
      ["load", 0, 0],
      [`${name}_grad`, 1, 0],
      [name, 0, 0],
      ["store", 0, 0, 0],
      ["store", 0, 1, 1],
    ];
    const together = await run(fused([float32([2100], x)], [f32([2100]), f32([2100])], both));
    // As numbers: which NaN comes out is not said.
    const numbers = (arrays: readonly unknown[]) => arrays.map((array) => Array.from(array as Float32Array));
    assert.deepEqual(numbers(together), numbers([value, grad]), name);
  }
});

kernelTest("fused: sin and cos of large angles", async (run) => {
  const x = Float32Array.from(noise(500, 9), (v) => v * 1e5);
  x.set([99999.9, 1e7, 3e9, 1e30]);
  const steps: Step[] = [
    ["load", 0, 0],
    ["sin", 1, 0],
    ["cos", 2, 0],
    ["store", 0, 0, 1],
    ["store", 0, 1, 2],
  ];
  const [s, c] = await run(fused([float32([500], x)], [f32([500]), f32([500])], steps));
  assertClose(s as Float32Array, x.map(Math.sin), 3e-7, "sin");
  assertClose(c as Float32Array, x.map(Math.cos), 3e-7, "cos");
});

kernelTest("fused: binary opcodes", async (run) => {
  for (const [name, f] of Object.entries(binary)) {
    const x = noise(517, 1, 3);
    const y = noise(517, 2, 3);
    if (name === "pow") x.set(x.map(Math.abs));
    x.set([0, 1, Number.NaN, 2, 0, 3]);
    y.set([0, 1, 1, Number.NaN, 4, 0]);
    const steps: Step[] = [
      ["load", 0, 0],
      ["load", 1, 1],
      [name as OpcodeName, 0, 0, 1],
      ["store", 0, 0, 0],
    ];
    const [z] = await run(fused([float32([517], x), float32([517], y)], [f32([517])], steps));
    assertClose(
      z as Float32Array,
      Array.from(x, (v, i) => f(v, y[i] as number)),
      1e-6,
      name,
    );
  }
});

kernelTest("fused: int opcodes and casts", async (run) => {
  const x = int32(
    [203],
    Array.from(noise(203, 4), (v) => v * 2 ** 31),
  );
  const y = int32(
    [203],
    Array.from(noise(203, 5), (v, i) => (i % 9 === 0 ? 0 : i % 7 === 0 ? -1 : v * 1000)),
  );
  for (const [table, store, dtype] of [
    [integer, "store_int", "int32"],
    [integerCompare, "store", "float32"],
  ] as const) {
    for (const [name, f] of Object.entries(table)) {
      const steps: Step[] = [
        ["load_int", 0, 0],
        ["load_int", 1, 1],
        [name as OpcodeName, 2, 0, 1],
        [store, 0, 0, 2],
      ];
      const [z] = await run(fused([x, y], [{ dtype, shape: [203] }], steps));
      assertClose(
        z as Int32Array,
        Array.from(x.data, (v, i) => f(v, y.data[i] as number)),
        0,
        name,
      );
    }
  }
  const [f] = await run(
    fused(
      [y],
      [f32([203])],
      [
        ["load_int", 0, 0],
        ["int_to_float", 0, 0],
        ["store", 0, 0, 0],
      ],
    ),
  );
  assertClose(f as Float32Array, y.data, 0, "int_to_float");
  const z = noisy([203], 6, 1000);
  const [i] = await run(
    fused(
      [z],
      [{ dtype: "int32", shape: [203] }],
      [
        ["load", 0, 0],
        ["float_to_int", 0, 0],
        ["store_int", 0, 0, 0],
      ],
    ),
  );
  assertClose(i as Int32Array, Array.from(z.data, Math.trunc), 0, "float_to_int");
});

kernelTest("fused: broadcast, transposed and scalar operands, constants, fma, select", async (run) => {
  const shapes = [
    [5, 7],
    [3, 1030],
    [130, 17],
    [1, 1],
    [2500, 3],
  ] as const;
  for (const [rows, columns] of shapes) {
    const shape = [rows, columns];
    const x = noise(rows * columns, 1);
    const transposed: Value = { dtype: "float32", shape, data: noise(rows * columns, 2), strides: [1, rows] };
    const bias: Value = { dtype: "float32", shape, data: noise(columns, 3), strides: [0, 1] };
    const perRow: Value = { dtype: "float32", shape, data: noise(rows, 4), strides: [1, 0] };
    const scalar: Value = { dtype: "float32", shape, data: noise(3, 5), strides: [0, 0], offset: 1 };
    const steps: Step[] = [
      ["load", 0, 0],
      ["load", 1, 1],
      ["load", 2, 2],
      ["load", 3, 3],
      ["load", 4, 4],
      ["const", 5, 0],
      ["const_int", 6, 1],
      ["fma", 0, 0, 3, 2], // x * perRow + bias
      ["add", 1, 1, 4], // transposed + scalar
      ["lt", 2, 0, 5], // < 0.25
      ["select", 3, 2, 0, 1],
      ["store", 0, 0, 3],
      ["store", 0, 1, 0],
      ["store_int", 0, 2, 6],
    ];
    const [a, b, c] = await run(
      fused(
        [float32(shape, x), transposed, bias, perRow, scalar],
        [f32(shape), f32(shape), { dtype: "int32", shape }],
        steps,
        {
          floats: [0.25, -9],
        },
      ),
    );
    const first: number[] = [];
    const chosen: number[] = [];
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        const v = (x[i * columns + j] as number) * (perRow.data[i] as number) + (bias.data[j] as number);
        first.push(v);
        chosen.push(Math.fround(v) < 0.25 ? v : (transposed.data[j * rows + i] as number) + (scalar.data[1] as number));
      }
    }
    assertClose(b as Float32Array, first, 1e-6, "fma");
    assertClose(a as Float32Array, chosen, 1e-6, "select");
    assert.ok((c as Int32Array).every((v) => v === -9));
  }
});

kernelTest("fused: narrow types and bool in and out", async (run) => {
  const n = 75;
  const bf16: Value = { dtype: "bfloat16", shape: [n], data: Uint16Array.from({ length: n }, (_, i) => 0x3f80 + i) };
  const f16: Value = { dtype: "float16", shape: [n], data: Uint16Array.from({ length: n }, (_, i) => 0x3c00 + i) };
  const flags: Value = { dtype: "bool", shape: [n], data: Uint8Array.from({ length: n }, (_, i) => i % 3) };
  const steps: Step[] = [
    ["load", 0, 0],
    ["load", 1, 1],
    ["load", 2, 2],
    ["store", 0, 0, 0],
    ["store", 0, 1, 1],
    ["store", 0, 2, 2],
    ["store", 0, 3, 0],
    ["store", 0, 4, 1],
    ["store", 0, 5, 2],
  ];
  const [b, h, m, b2, h2, m2] = await run(
    fused([bf16, f16, flags], [f32([n]), f32([n]), f32([n]), bf16, f16, flags], steps),
  );
  assertClose(
    b as Float32Array,
    Array.from({ length: n }, (_, i) => 1 + i / 128),
    0,
    "bfloat16",
  );
  assertClose(
    h as Float32Array,
    Array.from({ length: n }, (_, i) => 1 + i / 1024),
    0,
    "float16",
  );
  assertClose(
    m as Float32Array,
    Array.from(flags.data, (v) => bool(v !== 0)),
    0,
    "bool",
  );
  assert.deepEqual([b2, h2], [bf16.data, f16.data]);
  assert.deepEqual(
    [...(m2 as Uint8Array)],
    Array.from(flags.data, (v) => bool(v !== 0)),
  );
});

kernelTest("fused: trailing reductions", async (run) => {
  for (const shape of [
    [6, 5],
    [3, 1024],
    [2, 3, 700],
    [4, 1500],
    [2, 70000],
    [1, 140000],
    [0, 4],
    [4, 0],
    [9, 1],
  ]) {
    for (const reduce of [1, shape.length]) {
      const kept = shape.slice(0, shape.length - reduce);
      const columns = sizeOf(shape.slice(shape.length - reduce));
      const x = noisy(shape, 1);
      const y = noisy(shape, 2);
      const steps: Step[] = [
        ["load", 0, 0],
        ["load", 1, 1],
        ["mul", 2, 0, 1],
        ["reduce_sum", 0, 0, 2],
        ["reduce_max", 0, 1, 1],
        ["store", 0, 2, 2],
      ];
      const [sum, max, product] = await run(fused([x, y], [f32(kept), f32(kept), f32(shape)], steps, { reduce }));
      const rows = sizeOf(kept);
      const sums = Array.from({ length: rows }, () => 0);
      const maxima = Array.from({ length: rows }, () => Number.NEGATIVE_INFINITY);
      x.data.forEach((v, i) => {
        const row = Math.floor(i / columns);
        sums[row] = (sums[row] as number) + v * (y.data[i] as number);
        maxima[row] = Math.max(maxima[row] as number, y.data[i] as number);
      });
      assertClose(sum as Float32Array, sums, 1e-5, `sum ${shape}`);
      assertClose(max as Float32Array, maxima, 0, `max ${shape}`);
      assertClose(
        product as Float32Array,
        Array.from(x.data, (v, i) => v * (y.data[i] as number)),
        1e-6,
        "product",
      );
    }
  }
});

kernelTest("fused: NaN in reductions; a row's sum does not depend on the other rows", async (run) => {
  const rows = 40;
  const width = 3000;
  const x = noisy([rows, width], 5);
  const sum: Step[] = [
    ["load", 0, 0],
    ["exp", 1, 0],
    ["reduce_sum", 0, 0, 1],
  ];
  const [all] = await run(fused([x], [f32([rows])], sum, { reduce: 1 }));
  const last = float32([1, width], x.data.slice((rows - 1) * width));
  const [one] = await run(fused([last], [f32([1])], sum, { reduce: 1 }));
  assert.equal((one as Float32Array)[0], (all as Float32Array)[rows - 1]);
  for (const at of [0, 17, 2999]) {
    const data = noise(width, 6);
    data[at] = Number.NaN;
    const steps: Step[] = [
      ["load", 0, 0],
      ["reduce_max", 0, 0, 0],
    ];
    const [max] = await run(fused([float32([1, width], data)], [f32([1])], steps, { reduce: 1 }));
    assert.ok(Number.isNaN((max as Float32Array)[0]));
  }
});

kernelTest("fused: an output may take an input's memory", async (run) => {
  const x = noisy([5000], 1);
  const y = noisy([5000], 2);
  const steps: Step[] = [
    ["load", 0, 0],
    ["load", 1, 1],
    ["add", 2, 0, 1],
    ["store", 0, 0, 2],
    ["sub", 3, 0, 1],
    ["store", 0, 1, 3],
    ["store", 0, 2, 0],
  ];
  const [sum, difference, copy] = await run(fused([x, y], [f32([5000], 0), f32([5000], 1), f32([5000])], steps));
  assertClose(
    sum as Float32Array,
    Array.from(x.data, (v, i) => v + (y.data[i] as number)),
    1e-6,
  );
  assertClose(
    difference as Float32Array,
    Array.from(x.data, (v, i) => v - (y.data[i] as number)),
    1e-6,
  );
  assertClose(copy as Float32Array, x.data, 0);
});
