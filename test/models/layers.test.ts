import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  add,
  fillNormal,
  grad,
  HostRandom,
  jit,
  mul,
  NdArray,
  sub,
  sum,
  type Tensor,
  type Tree,
  unflatten,
} from "../../src/engine/index.ts";
import {
  gpt2,
  initModel,
  llama,
  MODULE_WRAP,
  type ModelConfig,
  type ModelFamily,
  type Module,
} from "../../src/models/index.ts";
import { causalAttention } from "../../src/models/layers/attention.ts";
import { parseRope, ropeFrequencies } from "../../src/models/layers/index.ts";
import { backends, relativeError } from "./support.ts";

const backend = backends.find(({ name }) => name === "reference")?.backend as NonNullable<
  (typeof backends)[number]["backend"]
>;

function randomArray(shape: readonly number[], seed: number): NdArray {
  const out = NdArray.zeros("float32", shape);
  fillNormal(out.data as Float32Array, { seed, std: 1 });
  return out;
}

test("fillNormal is HostRandom's stream, and normal", () => {
  const data = new Float32Array(40_001);
  fillNormal(data, { seed: 2 ** 40 + 7, std: 3 });
  const random = new HostRandom(2 ** 40 + 7);
  for (const i of [0, 2, 4, 6]) assert.equal(data[i], Math.fround(3 * random.normal()));
  const mean = data.reduce((a, b) => a + b, 0) / data.length;
  const std = Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length);
  assert.ok(Math.abs(mean) < 0.06 && Math.abs(std - 3) < 0.06, `${mean} ${std}`);
});

test("rotary frequencies of Llama 3.1, as the reference computes them", () => {
  const { theta, scaling } = parseRope({
    rope_theta: 500000,
    rope_scaling: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
  });
  const frequencies = ropeFrequencies(scaling, theta, 128);
  const plain = ropeFrequencies({ rope_type: "default" }, theta, 128);
  assert.equal(frequencies.length, 64);
  assert.deepEqual([...frequencies.slice(0, 20)], [...plain.slice(0, 20)]);
  assert.deepEqual([...frequencies.slice(40)], [...plain.slice(40).map((f) => f / 8)]);
  assert.ok(frequencies.every((f, i) => i === 0 || f < (frequencies[i - 1] as number)));
  // Values 29..34, where the two are blended, from transformers 5.23.
  const blended = [
    0.0021665706299245358, 0.0013718936825171113, 0.0008567514596506953, 0.0005248460220173001, 0.0003126936499029398,
    0.0001785077911335975,
  ];
  blended.forEach((expected, i) => {
    assert.ok(Math.abs((frequencies[29 + i] as number) / expected - 1) < 3e-7, `${29 + i}: ${frequencies[29 + i]}`);
  });
});

suite("attention with dropout", () => {
  const [B, T, H, G, K] = [2, 7, 4, 2, 6];
  const [q, k, v] = [randomArray([B, T, H, K], 1), randomArray([B, T, G, K], 2), randomArray([B, T, G, K], 3)];
  const segments = NdArray.int32([B, T], [0, 0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 1]);
  const probe = randomArray([B, T, H, K], 4);
  const key = NdArray.int32([2], [1, 2]);

  const make = (rate: number | undefined, withSegments: boolean) => {
    const fn = jit(
      (q: Tensor, k: Tensor, v: Tensor, more: { segments: Tensor; probe: Tensor; key: Tensor }) => {
        const inputs = { tokens: more.segments, ...(withSegments ? { segments: more.segments } : {}) };
        const dropout = rate === undefined ? undefined : { key: more.key, rate, stream: 5 };
        const out = causalAttention(q, k, v, { scale: 0.3, inputs, cacheName: "attn", newCache: {}, dropout });
        return { out, grads: grad(sum(mul(out, more.probe)), [q, k, v]) };
      },
      { backend },
    );
    return (keyArray = key) => fn(q, k, v, { segments, probe, key: keyArray });
  };

  for (const withSegments of [false, true]) {
    test(`at rate 0 it is attention without dropout${withSegments ? ", with segments" : ""}`, async () => {
      const [plain, dropped] = [await make(undefined, withSegments)(), await make(0, withSegments)()];
      assert.deepEqual(dropped.out.data, plain.out.data);
      assert.deepEqual(dropped.grads, plain.grads);
    });
  }

  test("it drops: by key, the same again, right on average", async () => {
    const plain = await make(undefined, false)();
    const run = make(0.5, false);
    const first = await run();
    assert.deepEqual((await run()).out.data, first.out.data);
    assert.notDeepEqual((await run(NdArray.int32([2], [1, 3]))).out.data, first.out.data);
    const mean = new Float32Array(plain.out.size);
    const draws = 400;
    for (let i = 0; i < draws; i++) {
      const { out } = await run(NdArray.int32([2], [9, i]));
      out.data.forEach((x, j) => {
        mean[j] = (mean[j] as number) + x / draws;
      });
    }
    const error = relativeError(NdArray.float32(plain.out.shape, mean), plain.out);
    assert.ok(error < 0.15, `${error}`);
  });
});

suite("dropout in the models", () => {
  const dials = { vocabSize: 11, contextLength: 8, hiddenSize: 16, numLayers: 2, numHeads: 2, dropout: 0.3 };
  for (const family of [gpt2, llama] as unknown as ModelFamily[]) {
    test(`${family.modelType}: only with a key, a stream for each site`, async () => {
      const config: ModelConfig = family.createConfig(dials);
      const model = initModel(family, config, { seed: 4 });
      const tokens = NdArray.int32([2, 6], [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
      const run = (key?: readonly [number, number]) =>
        jit(
          (params: Record<string, Tensor>, tokens: Tensor, key: Tensor | undefined) =>
            family.forward(unflatten(Object.entries(params)), { tokens }, config, { dropoutKey: key }).logits,
          { backend },
        )(Object.fromEntries(model.params), tokens, key === undefined ? undefined : NdArray.int32([2], key));
      const plain = await run();
      const [a, again, b] = [await run([1, 1]), await run([1, 1]), await run([1, 2])];
      assert.deepEqual(a.data, again.data);
      assert.notDeepEqual(a.data, plain.data);
      assert.notDeepEqual(a.data, b.data);
      const half = plain.size / 2;
      assert.deepEqual(plain.data.slice(0, half), plain.data.slice(half));
      assert.notDeepEqual(a.data.slice(0, half), a.data.slice(half), "rows of a batch drop alike");
    });
  }
});

suite("a wrapped module", () => {
  /** The tree with a wrap on the module at `path`. */
  function wrapped(tree: Tree<Tensor>, path: string, wrap: Module[typeof MODULE_WRAP]): Tree<Tensor> {
    const edit = (node: Module, keys: readonly string[]): Module => {
      const [key, ...rest] = keys;
      if (key === undefined) return { ...node, [MODULE_WRAP]: wrap } as Module;
      return { ...node, [key]: edit(node[key] as Module, rest) } as Module;
    };
    return edit(tree as Module, path.split(".")) as Tree<Tensor>;
  }

  for (const [family, path] of [
    [gpt2, "transformer.h.1.attn.c_attn"],
    [gpt2, "transformer.h.0.mlp.c_fc"],
    [llama, "model.layers.1.self_attn.q_proj"],
    [llama, "model.layers.0.mlp.down_proj"],
    [llama, "lm_head"],
  ] as unknown as [ModelFamily, string][]) {
    test(`${path}: takes part, and the identity changes nothing`, async () => {
      const config = family.createConfig({
        vocabSize: 11,
        contextLength: 8,
        hiddenSize: 16,
        numLayers: 2,
        numHeads: 2,
      });
      const model = initModel(family, config, { seed: 4 });
      const run = (wrap: Module[typeof MODULE_WRAP]) =>
        jit(
          (params: Record<string, Tensor>, tokens: Tensor) => {
            const tree = unflatten(Object.entries(params));
            return family.forward(wrap === undefined ? tree : wrapped(tree, path, wrap), { tokens }, config).logits;
          },
          { backend },
        )(Object.fromEntries(model.params), NdArray.int32([1, 4], [1, 2, 3, 4]));
      const plain = await run(undefined);
      assert.deepEqual((await run((x, layer) => layer(x))).data, plain.data);
      assert.notDeepEqual((await run((x, layer) => sub(add(layer(x), layer(x)), 0.01))).data, plain.data);
    });
  }
});
