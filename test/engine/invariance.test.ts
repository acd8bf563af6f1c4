/**
 * What a sequence's logits may depend on: the sequence alone. Not on the number of threads, not on what else is in the
 * batch, not on whether the past comes from a cache; and on the other engines they are the same to 1e-5.
 */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  type Backend,
  createBackend,
  HostRandom,
  jit,
  NdArray,
  type Precision,
  type Tensor,
  unflatten,
} from "../../src/engine/index.ts";
import { type Cache, initModel, type Model, modelFamily } from "../../src/models/index.ts";
import { openNative } from "./contract-support.ts";

const largestBatch = 32;
const [T, V] = [19, 131];
const dials = { vocabSize: V, contextLength: 24, hiddenSize: 72, numLayers: 2, numHeads: 6 };

const native = openNative();

/** Random weights of a size at which attention and norms do something. */
function modelOf(type: string): Model {
  const family = modelFamily(type);
  const model = initModel(family, family.createConfig({ ...dials, ...(type === "llama" ? { numKvHeads: 2 } : {}) }), {
    seed: 3,
  });
  const random = new HostRandom(5);
  for (const { data } of model.params.values()) {
    for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) * 4 + 0.1 * random.normal();
  }
  return model;
}

/** Token `t` of sequence `b`. */
const tokenAt = (b: number, t: number): number => (b * 37 + t * t * 11 + t * 5 + 3) % V;

/** Tokens [from, to) of the sequences `which`. */
function tokensOf(which: readonly number[], from = 0, to = T): NdArray {
  const ids = which.flatMap((b) => Array.from({ length: to - from }, (_, i) => tokenAt(b, from + i)));
  return NdArray.int32([which.length, to - from], ids);
}

const firstSequences = (count: number): number[] => Array.from({ length: count }, (_, b) => b);

/** A model's forward pass: logits[B,T,V], and the cache where one is given. */
function forwardOf({ family, config, params }: Model, backend: Backend, precision: Precision = "f32") {
  const run = jit(
    (params: Record<string, Tensor>, inputs: { tokens: Tensor; start?: Tensor; cache?: Cache }) => {
      const { logits, cache } = family.forward(unflatten(Object.entries(params)), inputs, config);
      return { logits, cache: cache ?? {} };
    },
    { backend, precision },
  );
  return (inputs: { tokens: NdArray; start?: NdArray; cache?: Record<string, NdArray> }) =>
    run(Object.fromEntries(params), inputs as never) as Promise<{ logits: NdArray; cache: Record<string, NdArray> }>;
}

type Forward = ReturnType<typeof forwardOf>;

/** Logits [T, V] of each sequence of a batch. */
async function logitsOf(forward: Forward, which: readonly number[]): Promise<Float32Array[]> {
  const { logits } = await forward({ tokens: tokensOf(which) });
  return which.map((_, i) => (logits.data as Float32Array).slice(i * T * V, (i + 1) * T * V));
}

/** The same through the cache: `prompt` tokens at once, then one by one. */
async function cachedLogitsOf(
  forward: Forward,
  model: Model,
  which: readonly number[],
  prompt: number,
): Promise<Float32Array[]> {
  const B = which.length;
  const shapes = Object.entries(model.family.cacheShape(model.config, B, T));
  let cache = Object.fromEntries(shapes.map(([name, shape]) => [name, NdArray.zeros("float32", shape)]));
  const logits = which.map(() => new Float32Array(T * V));
  for (let from = 0, to = prompt; from < T; from = to++) {
    const start = NdArray.int32([B], new Int32Array(B).fill(from));
    const out = await forward({ tokens: tokensOf(which, from, to), start, cache });
    cache = out.cache;
    const width = (to - from) * V;
    logits.forEach((row, i) => {
      row.set((out.logits.data as Float32Array).subarray(i * width, (i + 1) * width), from * V);
    });
  }
  return logits;
}

/** Largest difference over the largest magnitude. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let magnitude = 0;
  expected.forEach((e, i) => {
    difference = Math.max(difference, Math.abs(e - (actual[i] as number)));
    magnitude = Math.max(magnitude, Math.abs(e));
  });
  return difference / magnitude;
}

for (const type of ["gpt2", "llama"]) {
  for (const precision of ["f32", "bf16"] as const) {
    suite(`${type}, ${precision}, native`, {
      skip: native === undefined ? "the native engine is not built" : false,
    }, () => {
      const backend = native as Backend;
      const model = modelOf(type);
      let alone: Float32Array[] = [];
      const onThreads = async (count: number, body: () => Promise<void>): Promise<void> => {
        const before = backend.threads?.() ?? 1;
        backend.setThreads?.(count);
        await body();
        backend.setThreads?.(before);
      };

      test("each sequence alone, on one thread and on two", async () => {
        const forward = forwardOf(model, backend, precision);
        await onThreads(1, async () => {
          for (const b of firstSequences(largestBatch)) alone.push(...(await logitsOf(forward, [b])));
        });
        await onThreads(2, async () => {
          for (const b of firstSequences(largestBatch)) {
            assert.deepEqual(await logitsOf(forward, [b]), alone.slice(b, b + 1), `sequence ${b}`);
          }
        });
        assert.notDeepEqual(alone[0], alone[1]);
        const [exact] = await logitsOf(forwardOf(model, backend), [0]);
        assert.equal(relativeError(alone[0] as Float32Array, exact as Float32Array) > 0, precision === "bf16");
      });

      test(`batches of 1 to ${largestBatch}, on one thread and on two, to the bit`, async () => {
        const forward = forwardOf(model, backend, precision);
        for (let size = 1; size <= largestBatch; size++) {
          for (const threads of [1, 2]) {
            await onThreads(threads, async () => {
              const together = await logitsOf(forward, firstSequences(size));
              together.forEach((row, b) => {
                assert.deepEqual(row, alone[b], `sequence ${b} of ${size} on ${threads} threads`);
              });
            });
          }
        }
      });

      test("through a cache, to the bit", async () => {
        const forward = forwardOf(model, backend, precision);
        for (const [which, prompt] of [
          [[3], 1],
          [[0, 5], 7],
          [firstSequences(largestBatch), 11],
        ] as const) {
          const rows = await cachedLogitsOf(forward, model, which, prompt);
          rows.forEach((row, i) => {
            assert.deepEqual(row, alone[which[i] as number], `sequence ${which[i]} with a prompt of ${prompt}`);
          });
        }
        alone = [];
      });
    });
  }

  test(`${type}, f32: native, WebAssembly and reference agree to 1e-5, and WebAssembly keeps a sequence's bits`, async () => {
    const model = modelOf(type);
    const which = [0, 1, 2];
    const wasm = forwardOf(model, createBackend("wasm"));
    const onWasm = await logitsOf(wasm, which);
    const onReference = await logitsOf(forwardOf(model, createBackend("reference")), which);
    const onNative = native === undefined ? onReference : await logitsOf(forwardOf(model, native), which);
    for (const [i, b] of which.entries()) {
      const [w, r, n] = [onWasm[i], onReference[i], onNative[i]] as [Float32Array, Float32Array, Float32Array];
      for (const [name, error] of Object.entries({
        "WebAssembly and reference": relativeError(w, r),
        "native and reference": relativeError(n, r),
        "WebAssembly and native": relativeError(w, n),
      })) {
        assert.ok(error <= 1e-5, `${name}: ${error}`);
      }
      assert.deepEqual((await logitsOf(wasm, [b]))[0], w, `sequence ${b} alone`);
    }
    const cached = await cachedLogitsOf(wasm, model, which, 7);
    assert.deepEqual(cached, onWasm);
  });
}
