import assert from "node:assert/strict";
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
  const { q, k, v, floats } = inputsOf(c);
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
