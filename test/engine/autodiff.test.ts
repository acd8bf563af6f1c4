import assert from "node:assert/strict";
import { test } from "node:test";
import { grad, valueAndGrad } from "../../src/engine/autodiff/index.ts";
import { referenceBackend } from "../../src/engine/backends/reference.ts";
import { NdArray } from "../../src/engine/ir/nd-array.ts";
import { type Tensor, withScope } from "../../src/engine/ir/tensor.ts";
import * as ops from "../../src/engine/ops/index.ts";

/** Runs a function of float32 vectors on the reference backend. */
async function run(fn: (...xs: Tensor[]) => Tensor[], ...values: number[][]): Promise<number[][]> {
  const inputs = values.map((v) => ops.input({ shape: [v.length], dtype: "float32" }));
  const graph = {
    inputs,
    inputNames: inputs.map((_, i) => `x${i}`),
    outputs: fn(...inputs),
    donated: new Set<number>(),
  };
  const arrays = values.map((v) => NdArray.float32([v.length], v));
  return (await referenceBackend.compile(graph).run(arrays)).map((a) => Array.from(a.data));
}

test("a tensor used twice receives the sum of both gradients", async () => {
  assert.deepEqual(await run((x) => grad(ops.sum(ops.mul(x as Tensor, x as Tensor)), [x as Tensor]), [1, 2, 3]), [
    [2, 4, 6],
  ]);
});

test("what the loss does not depend on gets zeros", async () => {
  const grads = await run((x, y) => grad(ops.sum(x as Tensor), [x as Tensor, y as Tensor]), [1, 2], [3]);
  assert.deepEqual(grads, [[1, 1], [0]]);
});

test("gradients with respect to an intermediate and to what it is made of are both total derivatives", async () => {
  const grads = await run(
    (x) => {
      const y = ops.square(x as Tensor);
      return grad(ops.sum(ops.mul(y, x as Tensor)), [y, x as Tensor]);
    },
    [2, 3],
  );
  assert.deepEqual(grads, [
    [2, 3],
    [12, 27],
  ]);
});

test("second derivatives by differentiating a gradient", async () => {
  const grads = await run(
    (x) => {
      const [first] = grad(ops.sum(ops.pow(x as Tensor, 3)), [x as Tensor]);
      return grad(ops.sum(first as Tensor), [x as Tensor]);
    },
    [2, 5],
  );
  assert.deepEqual(grads, [[12, 30]]);
});

test("a composite op that takes the same tensor several times", async () => {
  const grads = await run(
    (x) => {
      const q = ops.reshape(x as Tensor, [1, 3, 1, 2]);
      const direct = ops.attention(q, q, q, { causal: true });
      const apart = [q, q, q].map((t) => ops.reshape(ops.mul(t, 1), [1, 3, 1, 2]));
      const copied = ops.attention(apart[0] as Tensor, apart[1] as Tensor, apart[2] as Tensor, { causal: true });
      const loss = (y: Tensor) =>
        ops.sum(ops.mul(y, ops.reshape(ops.iota([6], { axis: 0, dtype: "float32" }), [1, 3, 1, 2])));
      return [...grad(loss(direct), [x as Tensor]), ...grad(loss(copied), [x as Tensor])];
    },
    [0.3, -1, 0.7, 0.2, -0.4, 1.1],
  );
  assert.deepEqual(grads[0], grads[1]);
  assert.ok((grads[0] as number[]).every((g) => g !== 0));
});

test("stopGradient cuts the path", async () => {
  const grads = await run(
    (x) => grad(ops.sum(ops.mul(x as Tensor, ops.stopGradient(x as Tensor))), [x as Tensor]),
    [2, 3],
  );
  assert.deepEqual(grads, [[2, 3]]);
});

test("customGradient replaces the rule and nothing else", async () => {
  const doubled = ops.customGradient(
    (x) => [ops.mul(x as Tensor, 2)],
    ([dy]) => [ops.mul(dy as Tensor, 100)],
  );
  const results = await run(
    (x) => {
      const [y] = doubled(x as Tensor) as [Tensor];
      return [y, ...grad(ops.sum(y), [x as Tensor])];
    },
    [1, 2],
  );
  assert.deepEqual(results, [
    [2, 4],
    [100, 100],
  ]);
});

test("valueAndGrad follows the tree of its first argument and hands aux through", async () => {
  const results = await run(
    (a, b, c) => {
      const fn = valueAndGrad(
        (p: { w: Tensor; list: Tensor[] }, scale: Tensor): [Tensor, { twice: Tensor }] => {
          const total = ops.sum(ops.mul(ops.mul(p.w, p.list[0] as Tensor), scale));
          return [total, { twice: ops.mul(total, 2) }];
        },
        { hasAux: true },
      );
      const { value, grads, aux } = fn({ w: a as Tensor, list: [b as Tensor] }, c as Tensor);
      return [ops.reshape(value, [1]), grads.w, grads.list[0] as Tensor, ops.reshape(aux.twice, [1])];
    },
    [2],
    [3],
    [5],
  );
  assert.deepEqual(results, [[30], [15], [10], [60]]);
});

test("an op without a gradient on the path is named with its scope and reason", () => {
  const x = ops.input({ shape: [1, 2], dtype: "float32" });
  const start = ops.input({ shape: [1], dtype: "int32" });
  const y = withScope("h.0", () => withScope("attn", () => ops.cacheUpdate(x, x, start)));
  assert.throws(() => grad(ops.sum(y), [x]), {
    message:
      "grad: cacheUpdate has no gradient: it serves cached decoding; training recomputes keys and values (in h.0.attn). " +
      "Fix: take it off the path to the parameters, or wrap its input in stopGradient.",
  });
});

test("the same op off the path is no error", () => {
  const x = ops.input({ shape: [1, 2], dtype: "float32" });
  const start = ops.input({ shape: [1], dtype: "int32" });
  const y = ops.cacheUpdate(ops.stopGradient(x), ops.stopGradient(x), start);
  assert.equal(grad(ops.sum(ops.mul(x, y)), [x]).length, 1);
});

test("what cannot be differentiated is refused with the fix", () => {
  const x = ops.input({ shape: [2], dtype: "float32" });
  const n = ops.input({ shape: [2], dtype: "int32" });
  assert.throws(() => grad(x, [x]), {
    message: "grad: expected a floating scalar loss, got float32[2]. Fix: reduce it with sum or mean.",
  });
  assert.throws(() => grad(ops.sum(x), [n]), {
    message: "grad: expected floating tensors, got int32[2]. Fix: differentiate with respect to floating tensors only.",
  });
  assert.throws(() => valueAndGrad((p: { ids: Tensor }) => ops.sum(ops.cast(p.ids, "float32")))({ ids: n }), {
    message: 'valueAndGrad: expected a floating tensor at "ids", got int32[2]. Fix: pass it as a later argument.',
  });
});

test("the gradient of a narrow tensor has its element type", () => {
  const x = ops.input({ shape: [2, 3], dtype: "bfloat16" });
  const w = ops.input({ shape: [3, 4], dtype: "float32" });
  const [dx, dw] = grad(ops.sum(ops.matmul(x, w)), [x, w]) as [Tensor, Tensor];
  assert.equal(dx.dtype, "bfloat16");
  assert.equal(dw.dtype, "float32");
});
