/** Mixtures of experts: the loss that keeps them evenly used, and what a config may ask for. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  type Backend,
  cast,
  createBackend,
  div,
  jit,
  mean,
  NdArray,
  notEqual,
  type Precision,
  reshape,
  square,
  sum,
  type Tensor,
  topologicalOrder,
  unflatten,
  valueAndGrad,
} from "../../src/engine/index.ts";
import { initModel, type Model, mixtral, quantizeModel, tokenLosses, wrapModule } from "../../src/models/index.ts";
import { backends, loadGolden, relativeError } from "./support.ts";

type Flat = Record<string, Tensor>;
const ignoreIndex = -100;

/** Mean loss and gradients of a batch as training has them, or as measuring does. */
function trainer({ family, config, params }: Model, backend: Backend) {
  const run = jit(
    (flat: Flat, batch: { tokens: Tensor; targets: Tensor; key?: Tensor }, remat: boolean) =>
      valueAndGrad((flat: Flat) => {
        const targets = reshape(batch.targets, [-1]);
        const context = { dropoutKey: batch.key, remat };
        const model = { family, config, params: unflatten(Object.entries(flat)), context, ignoreIndex };
        const counted = sum(cast(notEqual(targets, ignoreIndex), "float32"));
        return div(sum(tokenLosses(model, { tokens: batch.tokens }, targets)), counted);
      })(flat),
    { backend },
  );
  return (batch: { tokens: NdArray; targets: NdArray; key?: NdArray }, remat = false) =>
    run(Object.fromEntries(params), batch, remat);
}

for (const { name, backend, skip } of backends) {
  suite(`balance loss, ${name}`, { skip }, () => {
    test("training adds the reference's to the mean loss, measuring does not", async () => {
      const { model, value } = await loadGolden("mixtral");
      const [mask, ids] = [value("target_mask"), value("tokens")];
      const [B, T] = mask.shape as [number, number];
      const pick = (at: (b: number, t: number) => number): NdArray =>
        NdArray.int32(
          [B, T],
          Array.from({ length: B * T }, (_, i) => at(Math.floor(i / T), i % T)),
        );
      const id = (b: number, t: number): number => ids.data[b * (T + 1) + t] as number;
      const batch = {
        tokens: pick(id),
        targets: pick((b, t) => (mask.data[b * T + t] === 0 ? ignoreIndex : id(b, t + 1))),
      };
      const run = trainer(model, backend as Backend);
      const measured = await run(batch);
      assert.ok(relativeError(measured.value, value("loss")) <= 1e-5);

      const trained = await run({ ...batch, key: NdArray.int32([2], [1, 2]) });
      const coefficient = 0.3;
      const expected = value("loss").item() + coefficient * value("aux.loss").item();
      assert.ok(Math.abs(trained.value.item() / expected - 1) <= 1e-5, `${trained.value.item()}, expected ${expected}`);
      for (const [parameter, gradient] of Object.entries(trained.grads)) {
        const [main, auxiliary] = [value(`grad.${parameter}`), value(`aux.grad.${parameter}`)];
        const both = main.data.map((x, i) => (x as number) + coefficient * (auxiliary.data[i] as number));
        const error = relativeError(gradient, NdArray.float32(main.shape, both as Float32Array));
        assert.ok(error <= 1e-4, `${parameter}: ${error}`);
      }

      const again = await run({ ...batch, key: NdArray.int32([2], [1, 2]) }, true);
      assert.deepEqual(again.value.data, trained.value.data);
      for (const [parameter, { data }] of Object.entries(again.grads)) {
        assert.deepEqual(data, trained.grads[parameter]?.data, `${parameter}, computed again`);
      }
    });
  });
}

test("experts that an adapter stands around run on every token, with the same result", async () => {
  const { model, value } = await loadGolden("mixtral");
  const { family, config, params } = model;
  const ids = value("packed.tokens");
  const tokens = NdArray.int32(ids.shape, ids.data as Int32Array);
  const backend = createBackend("native");
  const run = jit(
    (flat: Flat, tokens: Tensor, isWrapped: boolean) =>
      valueAndGrad((flat: Flat) => {
        const tree = unflatten(Object.entries(flat));
        const path = "model.layers.1.block_sparse_moe.experts.2.w3";
        const edited = isWrapped ? wrapModule(tree, path, (x, plain) => plain(x)) : tree;
        return mean(square(family.forward(edited, { tokens }, config).logits));
      })(flat),
    { backend },
  );
  const flat = Object.fromEntries(params);
  const [plain, wrapped] = [await run(flat, tokens, false), await run(flat, tokens, true)];
  const products = (isWrapped: boolean): number =>
    topologicalOrder(run.compile(flat, tokens, isWrapped).graph.outputs).filter(({ op }) => op.name === "groupedMatmul")
      .length;
  // Three forward and three backward in each layer.
  assert.deepEqual([products(false), products(true)], [12, 6]);
  assert.ok(relativeError(wrapped.value, plain.value) <= 1e-6);
  for (const [parameter, gradient] of Object.entries(wrapped.grads)) {
    const error = relativeError(gradient, plain.grads[parameter] as NdArray);
    assert.ok(error <= 1e-5, `${parameter}: ${error}`);
  }
});

test("quantised, and in bfloat16", async () => {
  const dials = { vocabSize: 50, contextLength: 16, hiddenSize: 64, numLayers: 1, numHeads: 2, intermediateSize: 64 };
  const model = initModel(mixtral, mixtral.createConfig(dials), { seed: 1 }) as Model;
  const tokens = NdArray.int32(
    [2, 9],
    Array.from({ length: 18 }, (_, i) => (i * 7) % 50),
  );
  const logits = ({ family, config, params }: Model, precision: Precision) =>
    jit((flat: Flat, tokens: Tensor) => family.forward(unflatten(Object.entries(flat)), { tokens }, config).logits, {
      backend: createBackend("native"),
      precision,
    })(Object.fromEntries(params), tokens);
  const exact = await logits(model, "f32");
  assert.ok(relativeError(await logits(model, "bf16"), exact) < 0.02);
  assert.ok(relativeError(await logits(quantizeModel(model, { format: "int8" }), "f32"), exact) < 0.05);
});

test("config.json of mixtral", () => {
  const parse = (edit: object) => mixtral.parseConfig({ model_type: "mixtral", ...edit });
  const c = parse({});
  assert.deepEqual([c.numExperts, c.numExpertsPerToken, c.ropeTheta, c.hasBalanceLoss], [8, 2, 1e6, false]);
  const made = mixtral.createConfig({ vocabSize: 9, contextLength: 9, hiddenSize: 8, numLayers: 1, numHeads: 2 });
  assert.deepEqual([made.hasBalanceLoss, made.balanceLossCoefficient, made.slidingWindow], [true, 0.02, undefined]);
  assert.throws(() => parse({ num_experts_per_tok: 9 }), /num_experts_per_tok 9 of num_local_experts 8\. Fix: /);
  assert.throws(() => parse({ router_jitter_noise: 0.1 }), /router_jitter_noise: .*, got 0\.1/);
  assert.throws(() => parse({ hidden_act: "swiglu" }), /hidden_act: .*, got "swiglu"/);
  const size = Object.values(mixtral.parameters(c)).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
  assert.equal(size, 46_702_792_704);
});
