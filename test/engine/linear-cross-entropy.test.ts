import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackend } from "../../src/engine/backends/index.ts";
import {
  crossEntropy,
  exp,
  grad,
  jit,
  linearCrossEntropy,
  matmul,
  mean,
  mul,
  NdArray,
  softCap,
  type Tensor,
  topologicalOrder,
} from "../../src/engine/index.ts";
import { apply1 } from "../../src/engine/ir/tensor.ts";
import { linearCrossEntropyOp } from "../../src/engine/ops/linear-cross-entropy.ts";
import { normalArrays } from "./arrays.ts";

const N = 11;
const D = 6;
const V = 37;
const backend = createBackend("native");
const normal = normalArrays(1);
const x = normal(N, D);
const weight = normal(V, D);
const targets = NdArray.int32(
  [N],
  Int32Array.from({ length: N }, (_, i) => (i === 4 ? -100 : (i * 5) % V)),
);

/** The op with chunks of 4 rows, which `linearCrossEntropy` itself chooses for vocabularies only. */
const chunked = (x: Tensor, weight: Tensor, targets: Tensor): Tensor =>
  apply1(linearCrossEntropyOp, [x, weight, targets], { ignoreIndex: -100, chunkRows: 4 });
const plain = (x: Tensor, weight: Tensor, targets: Tensor): Tensor =>
  crossEntropy(matmul(x, weight, { transposeB: true }), targets);

test("losses have the bits of a head and a cross-entropy, in chunks or at once", async () => {
  for (const losses of [chunked, linearCrossEntropy]) {
    const [a, b] = await jit(
      (x: Tensor, weight: Tensor, targets: Tensor) => [losses(x, weight, targets), plain(x, weight, targets)] as const,
      { backend },
    )(x, weight, targets);
    assert.deepEqual(a.data, b.data);
  }
});

test("capped logits: the bits of the parts, and their gradients", async () => {
  const cap = 1.5;
  const capped = (x: Tensor, weight: Tensor, targets: Tensor): Tensor =>
    apply1(linearCrossEntropyOp, [x, weight, targets], { ignoreIndex: -100, chunkRows: 4, softCap: cap });
  const parts = (x: Tensor, weight: Tensor, targets: Tensor): Tensor =>
    crossEntropy(softCap(matmul(x, weight, { transposeB: true }), cap), targets);
  const [a, b] = [lossAndGrads(capped, mean, [0, 1]), lossAndGrads(parts, mean, [0, 1])];
  const [one, other] = [await a(x, weight, targets), await b(x, weight, targets)];
  assert.deepEqual(one[0]?.data, other[0]?.data);
  assert.deepEqual(one[1]?.data, other[1]?.data);
  const [dweight, expected] = [one[2]?.data, other[2]?.data] as [Float32Array, Float32Array];
  dweight.forEach((d, i) => {
    assert.ok(Math.abs(d - (expected[i] as number)) < 1e-6);
  });
  assert.equal(products(a.compile(x, weight, targets).graph), 3 * Math.ceil(N / 4));
  assert.throws(
    () => jit((x: Tensor) => linearCrossEntropy(x, x, x, { softCap: 0 }), { backend }).compile(x),
    /linearCrossEntropy: expected a softCap above 0, got 0/,
  );
});

function lossAndGrads(losses: typeof plain, total: (losses: Tensor) => Tensor, wanted: readonly number[]) {
  return jit(
    (x: Tensor, weight: Tensor, targets: Tensor) => {
      const loss = total(losses(x, weight, targets));
      return [
        loss,
        ...grad(
          loss,
          wanted.map((i) => [x, weight][i] as Tensor),
        ),
      ];
    },
    { backend },
  );
}

const products = (graph: { outputs: readonly Tensor[] }): number =>
  topologicalOrder(graph.outputs).filter((node) => node.op.name === "matmul").length;

test("loss and gradients come from one pass over the logits: three products a chunk, two without the weight's", () => {
  const chunks = Math.ceil(N / 4);
  assert.equal(products(lossAndGrads(chunked, mean, [0, 1]).compile(x, weight, targets).graph), 3 * chunks);
  assert.equal(products(lossAndGrads(chunked, mean, [0]).compile(x, weight, targets).graph), 2 * chunks);
});

test("a cotangent that depends on the losses is right too", async () => {
  // d mean(exp(loss)): the cotangent of each row is its own perplexity.
  const total = (losses: Tensor): Tensor => mul(mean(exp(losses)), 0.5);
  const run = async (losses: typeof plain) =>
    (await lossAndGrads(losses, total, [0, 1])(x, weight, targets)).map((array) => [...array.data]);
  const [actual, expected] = [await run(chunked), await run(plain)];
  expected.forEach((values, i) => {
    const largest = Math.max(...values.map(Math.abs));
    values.forEach((value, j) => {
      const got = actual[i]?.[j] as number;
      assert.ok(Math.abs(got - value) <= 1e-5 * largest, `output ${i}, element ${j}: ${got}, expected ${value}`);
    });
  });
});

test("a target out of range is named by its place among all rows", async () => {
  const wrong = NdArray.int32([N], new Int32Array(N).fill(0));
  (wrong.data as Int32Array)[9] = V;
  await assert.rejects(jit(chunked, { backend })(x, weight, wrong), /target 37 at position 9 is outside \[0, 37\)/);
});
