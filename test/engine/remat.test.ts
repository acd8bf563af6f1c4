import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackend } from "../../src/engine/backends/index.ts";
import {
  add,
  dropout,
  gelu,
  jit,
  layerNorm,
  matmul,
  mul,
  NdArray,
  remat,
  sum,
  type Tensor,
  topologicalOrder,
  valueAndGrad,
} from "../../src/engine/index.ts";
import { normalArrays } from "./arrays.ts";

const layers = 8;
const N = 64;
const D = 32;
const backend = createBackend("native");
const normal = normalArrays(2, 1 / 8);
const params = Object.fromEntries(
  Array.from({ length: layers }, (_, i) => [
    [`${i}.norm`, normal(D)],
    [`${i}.up`, normal(D, 4 * D)],
    [`${i}.down`, normal(4 * D, D)],
  ]).flat(),
) as Record<string, NdArray>;
const x = normal(N, D);
const key = NdArray.int32([2], [7, 9]);

/** Residual blocks with dropout; the parameters and the key reach the blocks as tensors that they close over. */
function lossAndGrads(wrap: (block: (x: Tensor) => Tensor) => (x: Tensor) => Tensor) {
  const loss = (p: Record<string, Tensor>, x: Tensor, key: Tensor): Tensor => {
    let h = x;
    for (let i = 0; i < layers; i++) {
      const weight = (name: string): Tensor => p[`${i}.${name}`] as Tensor;
      h = wrap((x) => {
        const normed = layerNorm(x, weight("norm"), mul(weight("norm"), 0), { eps: 1e-5 });
        const up = dropout(gelu(matmul(normed, weight("up"))), 0.3, key, { stream: i });
        return add(x, matmul(up, weight("down")));
      })(h);
    }
    return sum(mul(h, h));
  };
  return jit(
    (p: Record<string, Tensor>, x: Tensor, key: Tensor) => {
      const { value, grads } = valueAndGrad(loss)(p, x, key);
      return { value, grads };
    },
    { backend },
  );
}

test("remat keeps the bits of the loss and of every gradient", async () => {
  const without = await lossAndGrads((block) => block)(params, x, key);
  const checkpointed = await lossAndGrads(remat)(params, x, key);
  assert.deepEqual(checkpointed.value.data, without.value.data);
  for (const [name, array] of Object.entries(without.grads)) {
    assert.deepEqual(checkpointed.grads[name]?.data, array.data, name);
  }
});

test("remat computes the inside twice and keeps the input of each block only", () => {
  const without = lossAndGrads((block) => block).compile(params, x, key);
  const checkpointed = lossAndGrads(remat).compile(params, x, key);
  const count = (compiled: typeof without, op: string): number =>
    topologicalOrder(compiled.graph.outputs).filter((node) => node.op.name === op).length;
  // The first product again; the second is not needed for any gradient.
  assert.equal(count(checkpointed, "matmul"), count(without, "matmul") + layers);
  assert.equal(count(checkpointed, "randomUniform"), 2 * count(without, "randomUniform"));
  const floats = 4;
  const inputs = layers * N * D * floats;
  const oneBlock = 6 * N * 4 * D * floats;
  assert.ok(
    checkpointed.stats.arenaBytes <= inputs + oneBlock,
    `${checkpointed.stats.arenaBytes} bytes, expected at most ${inputs + oneBlock}`,
  );
  assert.ok(without.stats.arenaBytes > layers * N * 4 * D * floats);
});

test("a checkpointed function may return what it was given", async () => {
  const f = jit(
    (x: Tensor) => {
      const { value, grads } = valueAndGrad((x: Tensor) => sum(mul(remat((y) => y)(x), 3)))(x);
      return { value, grads };
    },
    { backend },
  );
  const { grads } = await f(x);
  assert.ok(grads.data.every((value) => value === 3));
});
