import assert from "node:assert/strict";
import { test } from "node:test";
import { compileProgram } from "../../src/engine/compile/compile-program.ts";
import { storageCode } from "../../src/engine/compile/program.ts";
import {
  adamw,
  add,
  createBackend,
  gelu,
  jit,
  matmul,
  mul,
  NdArray,
  scalar,
  scatterAdd,
  slice,
  square,
  sum,
  type Tensor,
  valueAndGrad,
} from "../../src/engine/index.ts";
import { like, normalArrays } from "./arrays.ts";

const native = createBackend("native");
const normal = normalArrays(3);

/** xᵀy, a few rows at a time. */
function products(x: Tensor, y: Tensor): Tensor[] {
  return [0, 2, 4].map((from) => {
    const [a, b] = [x, y].map((t) => slice(t, { starts: [from], limits: [from + 2] })) as [Tensor, Tensor];
    return matmul(a, b, { transposeA: true });
  });
}
const chain = (x: Tensor, y: Tensor): Tensor => products(x, y).reduce((sum, product) => add(sum, product));

test("a sum of products grows in one buffer", async () => {
  const f = jit(chain, { backend: native });
  const { instructions } = compileProgram(f.compile(like([6, 4]), like([6, 3])).graph).spec;
  assert.deepEqual(
    instructions.map(({ kernel }) => kernel),
    ["matmul", "matmul_add", "matmul_add"],
  );
  assert.deepEqual(
    instructions.map(({ outputs }) => [outputs[0]?.storage, outputs[0]?.byteOffset]),
    instructions.map(() => [storageCode.output, 0]),
  );
  const [x, y] = [normal(6, 4), normal(6, 3)];
  const whole = await jit((x: Tensor, y: Tensor) => matmul(x, y, { transposeA: true }), { backend: native })(x, y);
  const parts = await f(x, y);
  parts.data.forEach((value, i) => {
    assert.ok(Math.abs(value - (whole.data[i] as number)) < 1e-5);
  });
});

test("gradients of micro-batches are added to the buffers of those before, when they are made", async () => {
  const f = jit(
    (before: Tensor[], keep: Tensor, x: Tensor, y: Tensor, ids: Tensor) => {
      const grads = [matmul(x, y, { transposeA: true }), scatterAdd(ids, y, { rows: 4 })];
      return grads.map((grad, i) => add(mul(before[i] as Tensor, keep), grad));
    },
    { donate: [0], backend: native },
  );
  const ids = NdArray.int32([6], [3, 1, 1, 0, 3, 3]);
  const [x, y] = [normal(6, 4), normal(6, 3)];
  const before = () => [
    NdArray.float32([4, 3], new Float32Array(12).fill(1)),
    NdArray.float32([4, 3], new Float32Array(12)),
  ];
  const { graph } = f.compile(before(), NdArray.scalar(1), x, y, ids);
  const { spec } = compileProgram(graph);
  assert.deepEqual(spec.instructions.map(({ kernel }) => kernel).sort(), [
    "fused",
    "fused",
    "matmul_add",
    "scatter_add",
  ]);
  assert.equal(spec.arenaBytes, 0, "everything happens in the donated buffers");
  const reference = await createBackend("reference")
    .compile(graph)
    .run([...before(), NdArray.scalar(1), x, y, ids]);
  const actual = await f(before(), NdArray.scalar(1), x, y, ids);
  actual.forEach((array, i) => {
    array.data.forEach((value, j) => {
      assert.ok(Math.abs(value - (reference[i]?.data[j] as number)) < 1e-5, `${i}: ${j}`);
    });
  });
});

test("activations are computed again for the gradient rather than kept beside what they are made of", async () => {
  const layers = 8;
  const N = 64;
  const D = 32;
  const weights = Object.fromEntries(Array.from({ length: layers }, (_, i) => [`w${i}`, normal(D, D)]));
  const f = (weights: Record<string, Tensor>, x: Tensor) => {
    const loss = (w: Record<string, Tensor>): Tensor => {
      let h = x;
      for (let i = 0; i < layers; i++) h = gelu(mul(matmul(h, w[`w${i}`] as Tensor), 0.3));
      return sum(square(h));
    };
    const { value, grads } = valueAndGrad(loss)(weights);
    return { value, grads };
  };
  const compiled = jit(f, { backend: native });
  const { stats } = compiled.compile(weights, like([N, D]));
  const one = N * D * 4;
  assert.ok(stats.arenaBytes <= (layers + 4) * one, `${stats.arenaBytes / one} activations in memory`);
  const x = normal(N, D);
  const actual = await compiled(weights, x);
  const expected = await jit(f, { backend: createBackend("reference") })(weights, x);
  for (const [name, grad] of Object.entries(expected.grads)) {
    const largest = Math.max(...grad.data.map(Math.abs));
    grad.data.forEach((value, i) => {
      assert.ok(Math.abs((actual.grads[name]?.data[i] as number) - value) <= 1e-5 * largest, `${name} ${i}`);
    });
  }
});

test("an update runs as soon as its gradient exists when nothing else waits for it", () => {
  const layers = 6;
  const D = 16;
  const weights = Object.fromEntries(Array.from({ length: layers }, (_, i) => [`w${i}`, like([D, D])]));
  type Named = Record<string, Tensor>;
  const f = (weights: Named, m: Named, v: Named, x: Tensor) => {
    const { grads } = valueAndGrad((w: Named) => {
      let h = x;
      for (let i = 0; i < layers; i++) h = gelu(matmul(h, w[`w${i}`] as Tensor));
      return sum(square(h));
    })(weights);
    const one = scalar(1);
    const scalars = { lr: scalar(0.1), gradScale: one, biasCorrection1: one, biasCorrection2: one };
    const options = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0 };
    return Object.entries(grads).map(([name, grad]) =>
      adamw({ param: weights[name] as Tensor, grad, m: m[name] as Tensor, v: v[name] as Tensor, ...scalars }, options),
    );
  };
  const compiled = jit(f, { donate: [0, 1, 2], backend: native }).compile(weights, weights, weights, like([2, D]));
  const { instructions } = compileProgram(compiled.graph).spec;
  const updates = instructions.flatMap(({ outputs }, i) => (outputs[0]?.storage === storageCode.input ? [i] : []));
  assert.equal(updates.length, layers);
  // The last weight's update comes before the first weight's gradient.
  assert.ok((updates[0] as number) < instructions.length - 2 * layers, `${updates} of ${instructions.length}`);
});
