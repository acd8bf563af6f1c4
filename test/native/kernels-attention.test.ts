import assert from "node:assert/strict";
import { bfloat16ToNumber, numberToBfloat16 } from "../../src/engine/ir/convert.ts";
import type { HostArray } from "../../src/engine/ir/dtype.ts";
import {
  assertClose,
  type Call,
  float32,
  int32,
  kernelTest,
  noise,
  noisy,
  sameBits,
  type Value,
} from "./run-kernel.ts";

interface Case {
  readonly sizes: readonly [B: number, T: number, S: number, H: number, G: number, K: number];
  readonly causal?: boolean;
  readonly start?: readonly number[];
  readonly segments?: readonly [q: readonly number[], k: readonly number[]];
  readonly window?: number;
  readonly magnitude?: number;
  /** q, k and v rounded to bfloat16. */
  readonly rounded?: boolean;
}

const f32 = (shape: readonly number[]) => ({ dtype: "float32", shape }) as const;

/** Head-major memory walked as [B,T,H,K]. */
function strided(shape: readonly [number, number, number, number], seed: number, scale: number): Value {
  const [B, T, H, K] = shape;
  return { dtype: "float32", shape, data: noise(B * T * H * K, seed, scale), strides: [T * H * K, K, T * K, 1] };
}

function inputsOf(c: Case): { q: Value; k: Value; v: Value; rest: Value[]; ints: number[]; floats: number[] } {
  const [B, T, S, H, G, K] = c.sizes;
  const rest: Value[] = [];
  if (c.start !== undefined) rest.push(int32([B], c.start));
  if (c.segments !== undefined) rest.push(int32([B, T], c.segments[0]), int32([B, S], c.segments[1]));
  return {
    q: strided([B, T, H, K], 1, c.magnitude ?? 2),
    k: strided([B, S, G, K], 2, 2),
    v: noisy([B, S, G, K], 3),
    rest,
    ints: [
      c.causal ? 1 : 0,
      c.start === undefined ? 0 : 1,
      c.segments === undefined ? 0 : 1,
      c.window ?? 0,
      0,
      0,
      0,
      0,
    ],
    floats: [1 / Math.sqrt(K), 0, 0],
  };
}

function forwardCall(c: Case): Call {
  const [B, T, , H, , K] = c.sizes;
  const { q, k, v, rest, ints, floats } = inputsOf(c);
  return {
    kernel: "attention",
    inputs: [q, k, v, ...rest],
    outputs: [f32([B, T, H, K]), f32([B, H, T])],
    ints,
    floats,
  };
}

const get = (x: Value, b: number, t: number, h: number, k: number): number => {
  const [, T, H, K] = x.shape as [number, number, number, number];
  const [sb, st, sh, sk] = (x.strides ?? [T * H * K, H * K, K, 1]) as [number, number, number, number];
  return x.data[b * sb + t * st + h * sh + k * sk] as number;
};

/** The definition, in float64: weights of the keys in sight, and from them the result and the gradients. */
function reference(c: Case, dout: Float32Array) {
  const [B, T, S, H, G, K] = c.sizes;
  const given = inputsOf(c);
  const { floats } = given;
  const [q, k, v] = [given.q, given.k, given.v].map((x) =>
    c.rounded === true ? { ...x, data: wide(bfloat16(x).data) } : x,
  ) as [Value, Value, Value];
  const scale = floats[0] as number;
  const out = new Float64Array(B * T * H * K);
  const lse = new Float64Array(B * H * T);
  const dq = new Float64Array(B * T * H * K);
  const dk = new Float64Array(B * S * G * K);
  const dv = new Float64Array(B * S * G * K);
  const add = (to: Float64Array, i: number, x: number): void => {
    to[i] = (to[i] as number) + x;
  };
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      const g = Math.floor(h / (H / G));
      for (let t = 0; t < T; t++) {
        const position = (c.start?.[b] ?? 0) + t;
        const seen: number[] = [];
        for (let s = 0; s < S; s++) {
          if (c.causal && (s > position || (c.window !== undefined && s <= position - c.window))) continue;
          if (c.segments !== undefined && c.segments[0][b * T + t] !== c.segments[1][b * S + s]) continue;
          seen.push(s);
        }
        const scores = seen.map((s) => {
          let sum = 0;
          for (let i = 0; i < K; i++) sum += get(q, b, t, h, i) * get(k, b, s, g, i);
          return sum * scale;
        });
        const top = Math.max(...scores);
        const total = scores.reduce((a, x) => a + Math.exp(x - top), 0);
        lse[(b * H + h) * T + t] = seen.length === 0 ? Number.NEGATIVE_INFINITY : top + Math.log(total);
        const weights = scores.map((x) => Math.exp(x - top) / total);
        const row = ((b * T + t) * H + h) * K;
        const dweights = seen.map((s, j) => {
          let sum = 0;
          for (let i = 0; i < K; i++) {
            add(out, row + i, (weights[j] as number) * get(v, b, s, g, i));
            add(dv, ((b * S + s) * G + g) * K + i, (weights[j] as number) * (dout[row + i] as number));
            sum += get(v, b, s, g, i) * (dout[row + i] as number);
          }
          return sum;
        });
        const mean = dweights.reduce((a, x, j) => a + x * (weights[j] as number), 0);
        seen.forEach((s, j) => {
          const d = (weights[j] as number) * ((dweights[j] as number) - mean) * scale;
          for (let i = 0; i < K; i++) {
            add(dq, row + i, d * get(k, b, s, g, i));
            add(dk, ((b * S + s) * G + g) * K + i, d * get(q, b, t, h, i));
          }
        });
      }
    }
  }
  return { out, lse, dq, dk, dv };
}

const documents = (lengths: readonly number[]): number[] => lengths.flatMap((n, i) => new Array<number>(n).fill(i));

const cases: Record<string, Case> = {
  "one of everything": { sizes: [1, 1, 1, 1, 1, 1] },
  "all keys": { sizes: [2, 5, 7, 2, 2, 8] },
  causal: { sizes: [2, 70, 70, 2, 2, 16], causal: true },
  "many blocks, odd width": { sizes: [1, 135, 135, 1, 1, 13], causal: true },
  "grouped heads": { sizes: [2, 33, 33, 6, 2, 20], causal: true },
  "one kv head, wide": { sizes: [1, 30, 90, 4, 1, 80], causal: true, start: [60] },
  "with a cache": { sizes: [3, 1, 200, 4, 2, 8], causal: true, start: [3, 64, 199] },
  window: { sizes: [1, 150, 150, 2, 1, 8], causal: true, window: 20 },
  segments: {
    sizes: [1, 160, 160, 1, 1, 8],
    causal: true,
    segments: [documents([3, 70, 1, 64, 22]), documents([3, 70, 1, 64, 22])],
  },
  "segments in no order": {
    sizes: [1, 6, 9, 2, 2, 4],
    segments: [
      [0, 1, 2, 0, 7, 1],
      [1, 0, 0, 2, 1, 1, 0, 3, 2],
    ],
  },
  "several panels of queries": { sizes: [1, 600, 600, 2, 1, 8], causal: true },
  "many queries, few keys": { sizes: [1, 1100, 90, 1, 1, 12] },
  "wide heads": { sizes: [1, 20, 70, 2, 1, 300] },
  "sharp scores": { sizes: [1, 40, 140, 1, 1, 16], magnitude: 60 },
  "no keys": { sizes: [2, 3, 0, 2, 1, 4] },
  "no queries": { sizes: [2, 0, 3, 2, 1, 4] },
};

for (const [name, c] of Object.entries(cases)) {
  kernelTest(`attention and its gradient: ${name}`, async (run) => {
    const [B, T, S, H, G, K] = c.sizes;
    const dout = noise(B * T * H * K, 4);
    const expected = reference(c, dout);
    const [out, lse] = await run(forwardCall(c));
    assertClose(out as Float32Array, expected.out, 1e-5, "out");
    assertClose(lse as Float32Array, expected.lse, 1e-5, "lse");
    const { q, k, v, rest, ints, floats } = inputsOf(c);
    const saved = [float32([B, T, H, K], out as Float32Array), float32([B, H, T], lse as Float32Array)];
    const [dq, dk, dv] = await run({
      kernel: "attention_grad",
      inputs: [q, k, v, ...saved, float32([B, T, H, K], dout), ...rest],
      outputs: [f32([B, T, H, K]), f32([B, S, G, K]), f32([B, S, G, K])],
      ints,
      floats,
      workspaceBytes: 2 * 16 * B * S * G * K * 4,
    });
    const tolerance = c.magnitude === undefined ? 1e-5 : 1e-4;
    assertClose(dq as Float32Array, expected.dq, tolerance, "dq");
    assertClose(dk as Float32Array, expected.dk, tolerance, "dk");
    assertClose(dv as Float32Array, expected.dv, tolerance, "dv");
  });
}

kernelTest("attention: a token decoded from a cache has the bits of the full pass, whatever the batch", async (run) => {
  const [B, T, H, G, K] = [2, 200, 4, 2, 24];
  const S = 333; // the cache is longer than what it holds, and what lies beyond is not zero
  const q = noisy([B, T, H, K], 1, 3);
  const k = noisy([B, S, G, K], 2, 3);
  const v = noisy([B, S, G, K], 3);
  const cut = (x: Value, rows: number): Value => {
    const [, length, heads, width] = x.shape as [number, number, number, number];
    const data = Array.from({ length: B }, (_, b) => [
      ...x.data.subarray(b * length * heads * width, (b * length + rows) * heads * width),
    ]).flat();
    return float32([B, rows, heads, width], data);
  };
  const floats = [1 / Math.sqrt(K), 0, 0];
  for (const window of [0, 50]) {
    const [full] = await run({
      kernel: "attention",
      inputs: [q, cut(k, T), cut(v, T)],
      outputs: [f32([B, T, H, K]), f32([B, H, T])],
      ints: [1, 0, 0, window, 0, 0, 0, 0],
      floats,
    });
    for (const t of [0, 1, 63, 64, 65, 127, 128, 150, 199]) {
      for (const b of [0, 1]) {
        const row = (b * T + t) * H * K;
        const one = (x: Value, length: number): Value =>
          float32([1, length, G, K], x.data.subarray(b * length * G * K, (b + 1) * length * G * K));
        const [decoded] = await run({
          kernel: "attention",
          inputs: [float32([1, 1, H, K], q.data.subarray(row, row + H * K)), one(k, S), one(v, S), int32([1], [t])],
          outputs: [f32([1, 1, H, K]), f32([1, H, 1])],
          ints: [1, 1, 0, window, 0, 0, 0, 0],
          floats,
        });
        const expected = (full as Float32Array).slice(row, row + H * K);
        assert.ok(sameBits(decoded as Float32Array, expected), `window ${window}, batch row ${b}, token ${t}`);
      }
    }
  }
});

/** Rounds to bfloat16: bits and value. */
function bfloat16(x: Value): Value {
  return { ...x, dtype: "bfloat16", data: Uint16Array.from(x.data, (value) => numberToBfloat16(value)) };
}
const wide = (data: ArrayLike<number>): Float32Array => Float32Array.from(data, (bits) => bfloat16ToNumber(bits));

kernelTest("attention: groups of a long cache give the bits of the full pass, in both precisions", async (run) => {
  const [T, S, H, G, K] = [2500, 2500, 2, 1, 16];
  const floats = [1 / Math.sqrt(K), 0, 0];
  for (const narrow of [false, true]) {
    const as = narrow ? bfloat16 : (x: Value): Value => x;
    const [q, k, v] = [noisy([1, T, H, K], 1, 3), noisy([1, S, G, K], 2, 3), noisy([1, S, G, K], 3)].map(as) as [
      Value,
      Value,
      Value,
    ];
    const dtype = narrow ? "bfloat16" : "float32";
    const [full] = await run({
      kernel: "attention",
      inputs: [q, k, v],
      outputs: [{ dtype, shape: [1, T, H, K] }, f32([1, H, T])],
      ints: [1, 0, 0, 0, narrow ? 1 : 0, 0, 0, 0],
      floats,
    });
    for (const t of [0, 1023, 1024, 2047, 2048, 2499]) {
      const row = t * H * K;
      const [decoded] = await run({
        kernel: "attention",
        inputs: [{ dtype, shape: [1, 1, H, K], data: q.data.slice(row, row + H * K) }, k, v, int32([1], [t])],
        outputs: [{ dtype, shape: [1, 1, H, K] }, f32([1, H, 1])],
        ints: [1, 1, 0, 0, narrow ? 1 : 0, 0, 0, 0],
        floats,
      });
      const expected = (full as HostArray).slice(row, row + H * K);
      assert.ok(sameBits(decoded as HostArray, expected), `${dtype}, token ${t}`);
    }
  }
});

kernelTest("attention: a row's bits do not depend on the batch, in both precisions", async (run) => {
  const [B, T, H, G, K] = [3, 40, 4, 2, 20];
  for (const dtype of ["float32", "bfloat16"] as const) {
    const as = dtype === "bfloat16" ? bfloat16 : (x: Value): Value => x;
    const call = (batch: readonly number[]): Call => {
      const rows = (x: Value): Value => {
        const size = x.data.length / B;
        const data = batch.flatMap((b) => [...x.data.subarray(b * size, (b + 1) * size)]);
        return as(float32([batch.length, ...x.shape.slice(1)], data));
      };
      const inputs = [noisy([B, T, H, K], 1), noisy([B, T, G, K], 2), noisy([B, T, G, K], 3)].map(rows);
      return {
        kernel: "attention",
        inputs,
        outputs: [{ dtype, shape: [batch.length, T, H, K] }, f32([batch.length, H, T])],
        ints: [1, 0, 0, 0, dtype === "bfloat16" ? 1 : 0, 0, 0, 0],
        floats: [0.3, 0, 0],
      };
    };
    const [all] = await run(call([0, 1, 2]));
    const size = (all as HostArray).length / B;
    for (const b of [0, 1, 2]) {
      const [alone] = await run(call([b]));
      assert.ok(sameBits(alone as HostArray, (all as HostArray).slice(b * size, (b + 1) * size)), `${dtype}, row ${b}`);
    }
  }
});

kernelTest("attention and its gradient: bfloat16 operands over several panels of queries", async (run) => {
  const [B, T, H, G, K] = [1, 540, 2, 1, 16];
  const c: Case = { sizes: [B, T, T, H, G, K], causal: true };
  const { q, k, v, floats } = inputsOf(c);
  const round = (x: Value): Value => ({ ...x, data: wide(bfloat16(x).data) });
  const dout = round(noisy([B, T, H, K], 4));
  const expected = reference({ ...c, rounded: true }, dout.data as Float32Array);
  const ints = [1, 0, 0, 0, 1, 0, 0, 0];
  const rows: readonly number[] = [B, T, H, K];
  for (const dtype of ["float32", "bfloat16"] as const) {
    const as = dtype === "bfloat16" ? bfloat16 : (x: Value): Value => x;
    const read = (x: HostArray | undefined): Float32Array =>
      dtype === "bfloat16" ? wide(x as HostArray) : (x as Float32Array);
    const operands = [q, k, v].map(as);
    const [out, lse] = await run({
      kernel: "attention",
      inputs: operands,
      outputs: [{ dtype, shape: rows }, f32([B, H, T])],
      ints,
      floats,
    });
    assertClose(read(out), expected.out, 1e-2, "out");
    assertClose(lse as Float32Array, expected.lse, 1e-4, "lse");
    const saved: Value[] = [
      { dtype, shape: rows, data: out as HostArray },
      float32([B, H, T], lse as Float32Array),
      as(dout),
    ];
    const [dq, dk, dv] = await run({
      kernel: "attention_grad",
      inputs: [...operands, ...saved],
      outputs: [rows, k.shape, k.shape].map((shape) => ({ dtype, shape })),
      ints,
      floats,
      workspaceBytes: 2 * 3 * T * G * K * 4,
    });
    assertClose(read(dq), expected.dq, 2e-2, "dq");
    assertClose(read(dk), expected.dk, 2e-2, "dk");
    assertClose(read(dv), expected.dv, 2e-2, "dv");
  }
});

kernelTest("attention: NaN in sight reaches the result, NaN out of sight does not", async (run) => {
  const sizes = [1, 80, 80, 1, 1, 8] as const;
  const call = forwardCall({ sizes, causal: true });
  const k = (call.inputs[1] as Value).data.slice() as Float32Array;
  k[70 * 8] = Number.NaN;
  const [out] = await run({
    ...call,
    inputs: [call.inputs[0] as Value, { ...(call.inputs[1] as Value), data: k }, call.inputs[2] as Value],
  });
  for (let t = 0; t < 80; t++) assert.equal(Number.isNaN((out as Float32Array)[t * 8]), t >= 70, `token ${t}`);
  const allNaN = noisy([1, 3, 1, 4]).data.map(() => Number.NaN) as Float32Array;
  const shape = [1, 3, 1, 4];
  const [nan] = await run({
    kernel: "attention",
    inputs: [noisy(shape), float32(shape, allNaN), noisy(shape, 2)],
    outputs: [f32(shape), f32([1, 1, 3])],
    ints: [0, 0, 0, 0, 0, 0, 0, 0],
    floats: [1, 0, 0],
  });
  assert.ok((nan as Float32Array).every(Number.isNaN));
});
