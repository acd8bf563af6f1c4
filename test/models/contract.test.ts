/** What every registered architecture must do, whatever it is. A new model passes this without a line here. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import {
  type Backend,
  constant,
  createBackend,
  HostRandom,
  jit,
  mul,
  NdArray,
  sum,
  type Tensor,
  unflatten,
  valueAndGrad,
} from "../../src/engine/index.ts";
import {
  type Cache,
  countParameters,
  initModel,
  loadModel,
  type Model,
  type ModelDials,
  type ModelFamily,
  modelFamilies,
  saveModel,
} from "../../src/models/index.ts";
import "./bigram.ts";
import { adamwLosses, backends, relativeError } from "./support.ts";

const [B, T, V] = [3, 11, 37];
const dials: ModelDials = { vocabSize: V, contextLength: 24, hiddenSize: 32, numLayers: 2, numHeads: 4, eosTokenId: 1 };

/** The family at its smallest, and with grouped key-value heads where it has them. */
function variants(family: ModelFamily): { name: string; config: ReturnType<ModelFamily["createConfig"]> }[] {
  const plain = { name: family.modelType, config: family.createConfig(dials) };
  try {
    const config = family.createConfig({ ...dials, numKvHeads: 2, tieWordEmbeddings: true });
    return config.numKvHeads === 2 ? [plain, { name: `${family.modelType} grouped`, config }] : [plain];
  } catch {
    return [plain];
  }
}

/** Random weights of a size at which attention and norms do something. */
function lively(family: ModelFamily, config: Model["config"]): Model {
  const model = initModel(family, config, { seed: 3 });
  const random = new HostRandom(5);
  for (const { data } of model.params.values()) {
    for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) * 4 + 0.1 * random.normal();
  }
  return model;
}

function randomTokens(rows: number, columns: number, seed: number): NdArray {
  const random = new HostRandom(seed);
  return NdArray.int32(
    [rows, columns],
    Array.from({ length: rows * columns }, () => random.int(V)),
  );
}

type Inputs = {
  tokens: Tensor;
  segments?: Tensor;
  positions?: Tensor;
  start?: Tensor;
  lastIndex?: Tensor;
  rows?: Tensor;
  cache?: Cache;
  source?: Tensor;
};

/** What an encoder-decoder reads while it does what every decoder does: the same short text for every row. */
function readingOf(family: ModelFamily, { tokens }: { tokens: { readonly shape: readonly number[] } }) {
  if (family.kind !== "encoder-decoder") return {};
  const rows = tokens.shape[0] as number;
  return {
    source: constant(
      Int32Array.from({ length: 5 * rows }, (_, i) => 3 + ((7 * (i % 5)) % 30)),
      { shape: [rows, 5] },
    ),
  };
}

function runner({ family, config, params }: Model, backend: Backend) {
  const run = jit(
    (params: Record<string, Tensor>, inputs: Inputs) => {
      const { logits, cache } = family.forward(
        unflatten(Object.entries(params)),
        { ...inputs, ...readingOf(family, inputs) },
        config,
      );
      return { logits, cache: cache ?? {} };
    },
    { backend },
  );
  return (inputs: { [K in keyof Inputs]: Inputs[K] extends Cache | undefined ? Record<string, NdArray> : NdArray }) =>
    run(Object.fromEntries(params), inputs as never) as Promise<{ logits: NdArray; cache: Record<string, NdArray> }>;
}

/** Rows [from, to) of the leading axes flattened to `width` columns. */
function rows(x: NdArray, width: number, from: number, to: number): Float32Array {
  return (x.data as Float32Array).slice(from * width, to * width);
}

for (const family of modelFamilies()) {
  const isEncoder = family.kind === "encoder";
  for (const { name, config } of variants(family)) {
    suite(`contract of ${name}`, () => {
      test("config.json round trip", () => {
        const json = JSON.parse(JSON.stringify(family.formatConfig(config))) as unknown;
        assert.deepEqual(family.formatConfig(family.parseConfig(json)), family.formatConfig(config));
        assert.equal((json as { model_type: string }).model_type, family.modelType);
      });

      test("initialisation: by seed and name, as the specs say", () => {
        const specs = family.parameters(config);
        const model = initModel(family, config, { seed: 1 });
        const [again, other] = [initModel(family, config, { seed: 1 }), initModel(family, config, { seed: 2 })];
        assert.deepEqual([...model.params.keys()], Object.keys(specs));
        assert.ok(countParameters(model) > 1000);
        const seen = new Set<number>();
        for (const [parameter, { shape, init, decay }] of Object.entries(specs)) {
          const { data } = model.params.get(parameter) as NdArray;
          assert.deepEqual(data, again.params.get(parameter)?.data);
          assert.equal(decay, shape.length >= 2, parameter);
          if (init.kind !== "normal") {
            assert.ok(
              data.every((x) => x === (init.kind === "ones" ? 1 : 0)),
              parameter,
            );
            continue;
          }
          assert.notDeepEqual(data, other.params.get(parameter)?.data);
          assert.ok(!seen.has(data[0] as number), `${parameter} starts like another`);
          seen.add(data[0] as number);
          const std = Math.hypot(...(data as Float32Array)) / Math.sqrt(data.length);
          assert.ok(Math.abs(std / init.std - 1) < 5 / Math.sqrt(data.length), `${parameter}: ${std}`);
        }
      });

      test("save, load, save: the same bytes, single and sharded", async () => {
        const root = await mkdtemp(join(tmpdir(), "plinth-contract-"));
        try {
          const model = lively(family, config);
          const bytes = 4 * countParameters(model);
          for (const maxShardBytes of [5e9, Math.ceil(bytes / 2)]) {
            const [first, second] = [join(root, `a${maxShardBytes}`), join(root, `b${maxShardBytes}`)];
            await saveModel(model, first, { maxShardBytes });
            const loaded = await loadModel(first);
            for (const [key, { data }] of model.params) assert.deepEqual(loaded.params.get(key)?.data, data, key);
            assert.deepEqual(family.formatConfig(loaded.config).eos_token_id, 1);
            await saveModel(loaded, second);
            const files = (await readdir(first)).sort();
            assert.deepEqual((await readdir(second)).sort(), files);
            assert.ok(maxShardBytes > 1e9 ? files.includes("model.safetensors") : files.length > 3, files.join());
            for (const file of files) {
              assert.ok((await readFile(join(first, file))).equals(await readFile(join(second, file))), file);
            }
          }
        } finally {
          await rm(root, { recursive: true, force: true });
        }
      });

      test("a sequence or cache beyond the context is refused while tracing", () => {
        const model = lively(family, config);
        const compile = (inputs: object) =>
          jit(
            (params: Record<string, Tensor>, inputs: Inputs) =>
              family.forward(unflatten(Object.entries(params)), { ...inputs, ...readingOf(family, inputs) }, config)
                .logits,
            { backend: createBackend("reference") },
          ).compile(Object.fromEntries(model.params), inputs as never);
        const tokens = { shape: [1, 25], dtype: "int32" };
        const pattern = new RegExp(
          `${family.modelType}: expected a sequence of at most 24 tokens \\(\\w+\\), got 25.* Fix: `,
        );
        assert.throws(() => compile({ tokens }), pattern);
        const cache = Object.fromEntries(
          Object.entries(family.cacheShape(config, 1, 32)).map(([key, shape]) => [key, { shape, dtype: "float32" }]),
        );
        if (Object.keys(cache).length === 0) return;
        assert.throws(
          () => compile({ tokens: { ...tokens, shape: [1, 2] }, cache }),
          /expected a cache of at most 24 tokens/,
        );
      });

      for (const { name: backendName, backend, skip } of backends) {
        const setUp = () => {
          const model = lively(family, config);
          return { model, run: runner(model, backend as Backend), tokens: randomTokens(B, T, 1) };
        };

        test(`${backendName}: every weight takes part`, { skip }, async () => {
          const { model, tokens } = setUp();
          const step = jit(
            (flat: Record<string, Tensor>, tokens: Tensor, probe: Tensor) =>
              valueAndGrad((flat: Record<string, Tensor>) =>
                sum(
                  mul(
                    family.forward(
                      unflatten(Object.entries(flat)),
                      { tokens, ...readingOf(family, { tokens }) },
                      config,
                    ).logits,
                    probe,
                  ),
                ),
              )(flat).grads,
            { backend: backend as Backend },
          );
          const random = new HostRandom(9);
          const probe = NdArray.float32(
            [B, T, V],
            Array.from({ length: B * T * V }, () => random.normal()),
          );
          const grads = await step(Object.fromEntries(model.params), tokens, probe);
          for (const [parameter, { data }] of Object.entries(grads)) {
            assert.ok(
              data.some((g) => g !== 0),
              `${parameter} has no effect`,
            );
            assert.ok(
              data.every((g) => Number.isFinite(g)),
              `${parameter} is not finite`,
            );
          }
        });

        test(`${backendName}: a row's logits do not depend on the batch`, { skip }, async () => {
          const { run, tokens } = setUp();
          const all = await run({ tokens });
          assert.deepEqual(all.logits.shape, [B, T, V]);
          for (let b = 0; b < B; b++) {
            const row = NdArray.int32([1, T], tokens.data.slice(b * T, (b + 1) * T) as Int32Array);
            assert.deepEqual((await run({ tokens: row })).logits.data, rows(all.logits, T * V, b, b + 1));
          }
        });

        const testOf = (kind: "encoder" | "decoder", name: string, body: () => Promise<void>): void => {
          if (isEncoder === (kind === "encoder")) test(`${backendName}: ${name}`, { skip }, body);
        };

        testOf("encoder", "a token sees what is before and after it", async () => {
          const { run, tokens } = setUp();
          const { logits } = await run({ tokens });
          for (const at of [0, T - 1]) {
            const changed = tokens.data.map((id, i) => (i % T === at ? (id + 1) % V : id)) as Int32Array;
            const other = await run({ tokens: NdArray.int32([B, T], changed) });
            for (let i = 0; i < B * T; i++) {
              assert.notDeepEqual(rows(other.logits, V, i, i + 1), rows(logits, V, i, i + 1), `token ${i}`);
            }
          }
        });

        testOf("encoder", "the logits of some tokens are those of all", async () => {
          const { run, tokens } = setUp();
          const { logits } = await run({ tokens });
          const picked = [
            [4, 0],
            [10, 10],
            [1, 7],
          ];
          const some = await run({ tokens, rows: NdArray.int32([B, 2], picked.flat()) });
          assert.deepEqual(some.logits.shape, [B, 2, V]);
          picked.flat().forEach((t, i) => {
            const at = Math.floor(i / 2) * T + t;
            assert.deepEqual(rows(some.logits, V, i, i + 1), rows(logits, V, at, at + 1));
          });
        });

        testOf("decoder", "a token sees nothing after it", async () => {
          const { run, tokens } = setUp();
          const changed = NdArray.int32(
            [B, T],
            tokens.data.map((id, i) => (i % T >= 6 ? (id + 1) % V : id)) as Int32Array,
          );
          const [a, b] = [await run({ tokens }), await run({ tokens: changed })];
          for (let row = 0; row < B; row++) {
            const from = row * T;
            assert.deepEqual(rows(a.logits, V, from, from + 6), rows(b.logits, V, from, from + 6));
            assert.notDeepEqual(rows(a.logits, V, from + 6, from + T), rows(b.logits, V, from + 6, from + T));
          }
        });

        test(`${backendName}: padding on the right changes nothing`, { skip }, async () => {
          const { run, tokens } = setUp();
          const { logits } = await run({ tokens });
          const padded = new Int32Array(B * (T + 5));
          for (let b = 0; b < B; b++) padded.set(tokens.data.slice(b * T, (b + 1) * T), b * (T + 5));
          // A decoder does not see what follows; an encoder is told where the text ends.
          const isText = Int32Array.from(padded, (_, i) => Number(i % (T + 5) < T));
          const segments = isEncoder ? { segments: NdArray.int32([B, T + 5], isText) } : {};
          const wide = await run({ tokens: NdArray.int32([B, T + 5], padded), ...segments });
          for (let b = 0; b < B; b++) {
            const [wideRows, narrowRows] = [
              rows(wide.logits, V, b * (T + 5), b * (T + 5) + T),
              rows(logits, V, b * T, b * T + T),
            ];
            assert.deepEqual(wideRows, narrowRows);
          }
        });

        test(`${backendName}: packed documents are as if alone`, { skip }, async () => {
          const { run, tokens } = setUp();
          const row = NdArray.int32([1, T], tokens.data.slice(0, T) as Int32Array);
          const lengths = [4, 1, 6];
          const segments = NdArray.int32(
            [1, T],
            lengths.flatMap((n, i) => new Array<number>(n).fill(i)),
          );
          const positions = NdArray.int32(
            [1, T],
            lengths.flatMap((n) => Array.from({ length: n }, (_, i) => i)),
          );
          const packed = await run({ tokens: row, segments, positions });
          let from = 0;
          for (const n of lengths) {
            const alone = await run({ tokens: NdArray.int32([1, n], row.data.slice(from, from + n) as Int32Array) });
            const expected = NdArray.float32([n, V], alone.logits.data as Float32Array);
            const actual = NdArray.float32([n, V], rows(packed.logits, V, from, from + n));
            const error = relativeError(actual, expected);
            assert.ok(error <= 1e-6, `document of ${n} tokens: ${error}`);
            from += n;
          }
        });

        testOf("decoder", "decoding by the cache equals the full pass, rows of unequal length", async () => {
          const { model, run, tokens } = setUp();
          const full = await run({ tokens });
          const prompt = 5;
          const lengths = [5, 2, 4];
          const cacheShape = Object.entries(family.cacheShape(model.config, B, T));
          let cache = Object.fromEntries(cacheShape.map(([key, shape]) => [key, NdArray.zeros("float32", shape)]));
          const ids = (b: number, t: number): number => tokens.data[b * T + t] as number;
          const check = (logits: NdArray, at: readonly number[]): void => {
            assert.deepEqual(logits.shape, [B, V]);
            at.forEach((t, b) => {
              const expected = NdArray.float32([V], rows(full.logits, V, b * T + t, b * T + t + 1));
              const error = relativeError(NdArray.float32([V], rows(logits, V, b, b + 1)), expected);
              assert.ok(error <= 2e-6, `row ${b}, token ${t}: ${error}`);
            });
          };
          const first = await run({
            tokens: NdArray.int32(
              [B, prompt],
              lengths.flatMap((n, b) => Array.from({ length: prompt }, (_, t) => (t < n ? ids(b, t) : 0))),
            ),
            lastIndex: NdArray.int32(
              [B],
              lengths.map((n) => n - 1),
            ),
            cache,
          });
          check(
            first.logits,
            lengths.map((n) => n - 1),
          );
          cache = first.cache;
          for (let step = 0; step < T - 5; step++) {
            const at = lengths.map((n) => n + step);
            const next = await run({
              tokens: NdArray.int32(
                [B, 1],
                at.map((t, b) => ids(b, t)),
              ),
              start: NdArray.int32([B], at),
              lastIndex: NdArray.int32([B], [0, 0, 0]),
              cache,
            });
            check(next.logits, at);
            cache = next.cache;
          }
        });

        test(`${backendName}: learns a batch by heart`, { skip }, async () => {
          const model = initModel(family, config, { seed: 1 });
          const settings = { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 };
          const source = family.kind === "encoder-decoder" ? { source: randomTokens(2, 5, 3) } : {};
          const batch = { tokens: randomTokens(2, 6, 1), targets: randomTokens(2, 6, 2), ...source };
          const losses = await adamwLosses(model, batch, { ...settings, steps: 12, backend: backend as Backend });
          const [start, end] = [losses[0] as number, losses.at(-1) as number];
          // Not much worse than chance: logits of unit variance, as PaLM's are by its paper, cost half a nat and more.
          const chance = Math.log(V);
          assert.ok(start > chance - 0.3 && start < 1.3 * chance, `starts at ${start}, chance is ${chance}`);
          assert.ok(end < 0.7 * Math.min(start, chance), `from ${start} to ${end}`);
        });
      }
    });
  }
}

test("the model of docs/add-a-model.md is the one tested here", async () => {
  const folder = (...names: string[]): string => join(packageRoot(), ...names);
  const [page, code] = [
    await readFile(folder("docs", "add-a-model.md"), "utf8"),
    await readFile(folder("test", "models", "bigram.ts"), "utf8"),
  ];
  const block = /```ts\n(.*?)```/s.exec(page)?.[1];
  assert.equal(block?.replaceAll(/"plinth\/(\w+)"/g, '"../../src/$1/index.ts"'), code);
});
