/** T5 against the reference implementation on tiny random models (test/golden/seq2seq_goldens.py). */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type Backend, jit, NdArray, type Tensor, unflatten, valueAndGrad } from "../../src/engine/index.ts";
import { type Cache, layers, modelFamily } from "../../src/models/index.ts";
import { adamwLosses, backends, loadGolden, logitsOf, meanLoss, relativeError } from "./support.ts";

type Flat = Record<string, Tensor>;

for (const { name: backendName, backend, skip } of backends) {
  suite(`T5, ${backendName}`, { skip }, () => {
    const on = backend as Backend;
    for (const name of ["t5", "t5-variant"]) {
      const load = async () => {
        const { model, value } = await loadGolden(name);
        const batch = { tokens: value("tokens"), source: value("source"), targets: value("targets") };
        return { model, value, batch };
      };

      test(`${name}: logits of both attention implementations`, async () => {
        const { model, value, batch } = await load();
        const logits = await logitsOf(model, { tokens: batch.tokens, source: batch.source }, on);
        for (const implementation of ["eager", "sdpa"]) {
          const error = relativeError(logits, value(`logits.${implementation}`));
          assert.ok(error <= 1e-5, `${implementation}: ${error}`);
        }
      });

      test(`${name}: loss and every gradient`, async () => {
        const { model, value, batch } = await load();
        const { family, config, params } = model;
        const step = jit(
          (flat: Flat, { targets, ...inputs }: { tokens: Tensor; source: Tensor; targets: Tensor }) =>
            valueAndGrad((flat: Flat) =>
              meanLoss(family.forward(unflatten(Object.entries(flat)), inputs, config).logits, targets),
            )(flat),
          { backend: on },
        );
        const { value: loss, grads } = await step(Object.fromEntries(params), batch);
        assert.ok(relativeError(loss, value("loss")) <= 1e-5, `loss ${loss.item()}`);
        assert.equal(Object.keys(grads).length, params.size);
        for (const [parameter, gradient] of Object.entries(grads)) {
          const error = relativeError(gradient, value(`grad.${parameter}`));
          assert.ok(error <= 1e-4, `${parameter}: ${error}`);
        }
      });

      test(`${name}: ten AdamW steps`, async () => {
        const { model, value, batch } = await load();
        const settings = { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 };
        const losses = await adamwLosses(model, batch, { ...settings, steps: 10, backend: on });
        losses.forEach((loss, i) => {
          const e = value("adamw_losses").data[i] as number;
          assert.ok(Math.abs(loss - e) <= 1e-4 * e, `step ${i}: ${loss}, expected ${e}`);
        });
      });

      test(`${name}: padded sources, and what is in the padding does not matter`, async () => {
        const { model, value, batch } = await load();
        const lengths = value("padded.lengths").data;
        const [, S] = batch.source.shape as [number, number];
        const isText = Int32Array.from(batch.source.data, (_, i) =>
          Number(i % S < (lengths[Math.floor(i / S)] as number)),
        );
        const sourceSegments = NdArray.int32(batch.source.shape, isText);
        const logits = await logitsOf(model, { tokens: batch.tokens, source: batch.source, sourceSegments }, on);
        const error = relativeError(logits, value("padded.logits"));
        assert.ok(error <= 1e-5, `${error}`);
      });

      test(`${name}: cached greedy decoding, the source read once`, async () => {
        const { model, value, batch } = await load();
        const { family, config, params } = model;
        const read = jit(
          (flat: Flat, source: Tensor) =>
            family.readSource?.(unflatten(Object.entries(flat)), { tokens: source, source }, config) as Cache,
          { backend: on },
        );
        const step = jit(
          (flat: Flat, cache: Cache, inputs: { tokens: Tensor; start: Tensor; memory: Cache }) => {
            const out = family.forward(unflatten(Object.entries(flat)), { ...inputs, cache }, config);
            return { logits: out.logits, cache: out.cache as Cache };
          },
          { backend: on, donate: [1] },
        );
        const memory = await read(Object.fromEntries(params), batch.source);
        const B = batch.source.shape[0] as number;
        const [ids, logits] = [value("decode.tokens"), value("decode.logits")];
        const [, steps, V] = logits.shape as [number, number, number];
        let cache: Record<string, NdArray> = Object.fromEntries(
          Object.entries(family.cacheShape(config, B, steps)).map(([key, shape]) => [
            key,
            NdArray.zeros("float32", shape),
          ]),
        );
        let tokens = NdArray.int32([B, 1], new Int32Array(B));
        for (let i = 0; i < steps; i++) {
          const start = NdArray.int32([B], new Int32Array(B).fill(i));
          const out = await step(Object.fromEntries(params), cache, { tokens, start, memory });
          cache = out.cache as Record<string, NdArray>;
          const expected = Float32Array.from({ length: B * V }, (_, j) => {
            return logits.data[(Math.floor(j / V) * steps + i) * V + (j % V)] as number;
          });
          const error = relativeError(out.logits, NdArray.float32([B, 1, V], expected));
          assert.ok(error <= 1e-5, `step ${i}: ${error}`);
          tokens = NdArray.int32(
            [B, 1],
            Array.from({ length: B }, (_, b) => ids.data[b * steps + i] as number),
          );
        }
      });
    }
  });
}

test("buckets of distances are the reference's", () => {
  // T5Attention._relative_position_bucket(torch.arange(-140, 141, 20), bidirectional, 32, 128)
  const distances = Array.from({ length: 15 }, (_, i) => 20 * i - 140);
  const buckets = { count: 32, maxDistance: 128 };
  const both = distances.map((d) => layers.relativeBucket(d, { ...buckets, bidirectional: true }));
  const causal = distances.map((d) => layers.relativeBucket(d, { ...buckets, bidirectional: false }));
  assert.deepEqual(both, [15, 15, 15, 14, 13, 12, 10, 0, 26, 28, 29, 30, 31, 31, 31]);
  assert.deepEqual(causal, [31, 31, 30, 28, 26, 23, 17, 0, 0, 0, 0, 0, 0, 0, 0]);
});

test("what is not implemented, or missing, is refused by name", () => {
  const family = modelFamily("t5");
  const parse = (more: object) => family.parseConfig({ model_type: "t5", ...more });
  assert.throws(
    () => parse({ feed_forward_proj: "gated-swoosh" }),
    /feed_forward_proj "gated-swoosh" is not implemented/,
  );
  assert.throws(() => parse({ relative_attention_max_distance: 12 }), /relative_attention_max_distance 12 is not more/);
  assert.equal(parse({ tie_word_embeddings: false }).tieWordEmbeddings, false);
  const config = family.createConfig({ vocabSize: 8, contextLength: 8, hiddenSize: 8, numLayers: 1, numHeads: 2 });
  const specs = Object.fromEntries(
    Object.entries(family.parameters(config)).map(([key, { shape }]) => [key, { shape, dtype: "float32" as const }]),
  );
  assert.throws(
    () =>
      jit(
        (flat: Flat, tokens: Tensor) => family.forward(unflatten(Object.entries(flat)), { tokens }, config).logits,
      ).compile(specs as never, { shape: [1, 4], dtype: "int32" } as never),
    /t5: expected a source to read, got none/,
  );
});
