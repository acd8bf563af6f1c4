/**
 * Parity with the reference implementation on tiny random models (test/golden/make_goldens.py). Errors are infinity
 * norms: largest difference over largest expected magnitude, per tensor.
 */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type Backend, jit, NdArray, type Tensor, unflatten, valueAndGrad } from "../../src/engine/index.ts";
import { type Model, paramsTree } from "../../src/models/index.ts";
import { adamwLosses, backends, decodeGreedily, loadGolden, logitsOf, meanLoss, relativeError } from "./support.ts";

const encoders = ["bert", "bert-variant", "roberta", "distilbert", "modernbert", "modernbert-variant"];
const cases = [
  "gpt2", "gpt2-variant", "llama", "llama-gqa", "llama3", ...encoders,
  "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "mixtral", "palm", "gpt_neo", "gpt_neox", "gpt_neox-variant",
  "gpt_bigcode", "gpt_bigcode-variant", "starcoder2", "starcoder2-variant",
];

interface Golden {
  readonly model: Model;
  readonly value: (name: string) => NdArray;
  /** Attention implementations of the reference. */
  readonly implementations: readonly string[];
}

function largest({ data }: NdArray): number {
  return (data as Float32Array).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
}

/** Inputs and targets as the reference had them. */
function batchOf({ value }: Golden): { tokens: NdArray; targets: NdArray } {
  const ids = value("tokens");
  const mask = value("target_mask");
  const [B, T] = mask.shape as [number, number];
  const at = (b: number, t: number): number => ids.data[b * (T + 1) + t] as number;
  const cells = Array.from({ length: B * T }, (_, i) => [Math.floor(i / T), i % T] as const);
  return {
    tokens: NdArray.int32(
      [B, T],
      cells.map(([b, t]) => at(b, t)),
    ),
    targets: NdArray.int32(
      [B, T],
      cells.map(([b, t], i) => (mask.data[i] === 0 ? -100 : at(b, t + 1))),
    ),
  };
}

for (const { name: backendName, backend, skip } of backends) {
  suite(`golden, ${backendName}`, { skip }, () => {
    const on = backend as Backend;
    for (const name of cases) {
      const load = (): Promise<Golden> => loadGolden(name);

      test(`${name}: logits of both attention implementations`, async () => {
        const golden = await load();
        const logits = await logitsOf(golden.model, { tokens: batchOf(golden).tokens }, on);
        for (const implementation of golden.implementations) {
          const error = relativeError(logits, golden.value(`logits.${implementation}`));
          assert.ok(error <= 1e-5, `${implementation}: ${error}`);
        }
      });

      test(`${name}: loss and every gradient`, async () => {
        const golden = await load();
        const { family, config, params } = golden.model;
        const step = jit(
          (flat: Record<string, Tensor>, batch: { tokens: Tensor; targets: Tensor }) =>
            valueAndGrad((flat: Record<string, Tensor>) =>
              meanLoss(family.forward(unflatten(Object.entries(flat)), batch, config).logits, batch.targets),
            )(flat),
          { backend: on },
        );
        const { value, grads } = await step(Object.fromEntries(params), batchOf(golden));
        assert.ok(relativeError(value, golden.value("loss")) <= 1e-5, `loss ${value.item()}`);
        assert.equal(Object.keys(grads).length, params.size);
        for (const [parameter, gradient] of Object.entries(grads)) {
          const expected = golden.value(`grad.${parameter}`);
          if (largest(expected) < 1e-7) {
            // Zero but for rounding: a bias of the keys shifts all scores alike, other heads have no part in the loss.
            assert.ok(largest(gradient) < 1e-6, `${parameter}: ${largest(gradient)}`);
            continue;
          }
          const error = relativeError(gradient, expected);
          assert.ok(error <= 1e-4, `${parameter}: ${error}`);
        }
      });

      test(`${name}: ten AdamW steps`, async () => {
        const golden = await load();
        const settings = { lr: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 };
        const losses = await adamwLosses(golden.model, batchOf(golden), { ...settings, steps: 10, backend: on });
        const expected = golden.value("adamw_losses");
        losses.forEach((loss, i) => {
          const e = expected.data[i] as number;
          assert.ok(Math.abs(loss - e) <= 1e-4 * e, `step ${i}: ${loss}, expected ${e}`);
        });
      });

      test(`${name}: packed documents equal each alone`, async () => {
        const { model, value } = await load();
        const [tokens, segments, positions] = ["tokens", "segments", "positions"].map((key) => value(`packed.${key}`));
        const inputs = { tokens, segments, positions } as { tokens: NdArray; segments: NdArray; positions: NdArray };
        const error = relativeError(await logitsOf(model, inputs, on), value("packed.logits"));
        assert.ok(error <= 1e-5, `${error}`);
      });

      test(`${name}: padded batch`, async () => {
        const { model, value } = await load();
        const tokens = value("padded.tokens");
        const [B, T] = tokens.shape as [number, number];
        const lengths = value("padded.lengths").data;
        // What comes after a text is nothing to a decoder; an encoder is told by segments where it ends.
        const isText = Int32Array.from({ length: B * T }, (_, i) => Number(i % T < (lengths[Math.floor(i / T)] as number)));
        const segments = model.family.kind === "encoder" ? { segments: NdArray.int32([B, T], isText) } : {};
        const logits = await logitsOf(model, { tokens, ...segments }, on);
        const V = logits.shape[2] as number;
        const kept = (logits.data as Float32Array).map((x, i) => {
          const [b, t] = [Math.floor(i / (T * V)), Math.floor(i / V) % T];
          return t < (value("padded.lengths").data[b] as number) ? x : 0;
        });
        const error = relativeError(NdArray.float32([B, T, V], kept), value("padded.logits"));
        assert.ok(error <= 1e-5, `${error}`);
      });

      if (encoders.includes(name)) continue; // an encoder does not decode
      test(`${name}: cached greedy decoding`, async () => {
        const { model, value } = await load();
        const expected = value("decode.tokens");
        const { ids, logits } = await decodeGreedily(model, value("decode.prompt"), expected.shape[1] as number, on);
        assert.deepEqual([...ids], [...expected.data]);
        const error = relativeError(logits, value("decode.logits"));
        assert.ok(error <= 1e-5, `${error}`);
      });
    }

    for (const name of ["llama-bf16-sharded", "gpt2-f16-bare"]) {
      test(`${name}: logits from narrow weights`, async () => {
        const { model, value } = await loadGolden(name);
        const error = relativeError(await logitsOf(model, { tokens: value("tokens") }, on), value("logits.eager"));
        assert.ok(error <= 1e-5, `${error}`);
      });
    }
  });
}

for (const { name: backendName, backend, skip } of backends) {
  test(`bert-variant: next-sentence logits of a pair of texts, ${backendName}`, { skip }, async () => {
    const { model, value } = await loadGolden("bert-variant");
    const run = jit(
      (flat: Record<string, Tensor>, inputs: { tokens: Tensor; tokenTypes: Tensor }) =>
        model.family.forward(unflatten(Object.entries(flat)), inputs, model.config).nextSentence as Tensor,
      { backend: backend as Backend },
    );
    const inputs = { tokens: value("nsp.tokens"), tokenTypes: value("nsp.tokenTypes") };
    const error = relativeError(await run(Object.fromEntries(model.params), inputs), value("nsp.logits"));
    assert.ok(error <= 1e-5, `${error}`);
  });
}

test("paramsTree has the checkpoint's paths", async () => {
  const { model } = await loadGolden("gpt2");
  const tree = paramsTree(model.params) as { transformer: { h: Record<string, { ln_1: { weight: NdArray } }> } };
  assert.equal(tree.transformer.h["1"]?.ln_1.weight, model.params.get("transformer.h.1.ln_1.weight"));
});
