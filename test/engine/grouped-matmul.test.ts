import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackend, groupedMatmul, HostRandom, jit, matmul, NdArray, type Tensor } from "../../src/engine/index.ts";

const backend = createBackend("native");
const random = new HostRandom(1);
const normal = (...shape: number[]): NdArray =>
  NdArray.float32(
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
  );
const [N, K, F] = [70, 48, 33];
const x = normal(N, K);
const weights = [normal(F, K), normal(F, K), normal(F, K)];
const run = jit(
  (x: Tensor, sizes: Tensor, weights: Tensor[]) => groupedMatmul(x, sizes, weights, { transposeB: true }),
  { backend },
);

test("a group's rows have the bits of a product of their own, however many others there are", async () => {
  const products = jit((x: Tensor, w: Tensor) => matmul(x, w, { transposeB: true }), { backend });
  for (const sizes of [
    [30, 1, 39],
    [0, 70, 0],
    [2, 3, 65],
  ]) {
    const { data } = await run(x, NdArray.int32([3], sizes), weights);
    let row = 0;
    for (const [e, size] of sizes.entries()) {
      const rows = NdArray.float32([size, K], x.data.slice(row * K, (row + size) * K) as Float32Array);
      const alone = await products(rows, weights[e] as NdArray);
      assert.deepEqual(data.slice(row * F, (row + size) * F), alone.data, `${sizes}, group ${e}`);
      row += size;
    }
  }
});

test("sizes that are not those of the rows are refused", async () => {
  const refused = (sizes: number[], message: RegExp) =>
    assert.rejects(async () => run(x, NdArray.int32([3], sizes), weights), message);
  await refused([30, 1, 40], /expected sizes that sum to the 70 rows, got 71/);
  await refused([71, -1, 0], /expected sizes of 0 or more/);
  const compile = (x: NdArray, sizes: NdArray, weights: NdArray[]) => () => run.compile(x, sizes, weights);
  assert.throws(compile(x, NdArray.int32([2], [35, 35]), weights), /groupedMatmul: expected sizes of shape \[3\]/);
  assert.throws(compile(normal(N, 5), NdArray.int32([3], [70, 0, 0]), weights), /matrices that fit x\[N,K\]/);
  assert.throws(compile(x, NdArray.int32([0], []), []), /1 to 1024 matrices, got 0/);
});
