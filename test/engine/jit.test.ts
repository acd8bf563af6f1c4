import assert from "node:assert/strict";
import { test } from "node:test";
import {
  add,
  createBackend,
  input,
  jit,
  matmul,
  mul,
  NdArray,
  sum,
  type Tensor,
  type Tree,
  valueAndGrad,
} from "../../src/engine/index.ts";

const backend = createBackend("reference");
const vector = (...values: number[]): NdArray => NdArray.float32([values.length], values);

test("runs a function of trees and returns its tree", async () => {
  const f = jit(
    (params: { w: Tensor; b: Tensor }, x: Tensor) => ({
      y: add(matmul(x, params.w), params.b),
      twice: [mul(x, 2)],
      n: 3,
    }),
    { backend },
  );
  const out = await f({ w: NdArray.float32([2, 2], [1, 2, 3, 4]), b: vector(10, 20) }, NdArray.float32([1, 2], [1, 1]));
  assert.deepEqual([...out.y.data], [14, 26]);
  assert.deepEqual(out.twice[0]?.shape, [1, 2]);
  assert.deepEqual([...(out.twice[0] as NdArray).data], [2, 2]);
  assert.equal(out.n.item(), 3);
});

test("compiles once per signature", async () => {
  let traced = 0;
  const f = jit(
    (x: Tensor, options: { scale: number }) => {
      traced++;
      return mul(x, options.scale);
    },
    { backend },
  );
  assert.deepEqual([...(await f(vector(1, 2), { scale: 2 })).data], [2, 4]);
  assert.deepEqual([...(await f(vector(3, 4), { scale: 2 })).data], [6, 8]);
  assert.equal(traced, 1);
  assert.deepEqual([...(await f(vector(3, 4), { scale: 5 })).data], [15, 20]);
  assert.equal((await f(vector(3), { scale: 2 })).shape[0], 1);
  assert.equal((await f(NdArray.float32([1, 2], [3, 4]), { scale: 2 })).shape.length, 2);
  assert.equal(traced, 4);
  assert.equal(f.programs, 4);
});

test("keeps a bounded number of programs, the recently used ones", async () => {
  const f = jit((x: Tensor) => mul(x, 2), { backend });
  const run = async (length: number): Promise<void> => {
    assert.equal((await f(NdArray.zeros("float32", [length]))).shape[0], length);
  };
  for (let length = 1; length <= 64; length++) await run(length);
  await run(1);
  await run(65);
  assert.equal(f.programs, 65);
  await run(1);
  assert.equal(f.programs, 65);
  await run(2);
  assert.equal(f.programs, 66);
});

test("names inputs by their path", () => {
  const step = (params: Tree<Tensor>, batch: { tokens: Tensor }) => {
    assert.ok(params !== undefined);
    return batch.tokens;
  };
  const compiled = jit(step, { backend }).compile(
    { h: [{ attn: { weight: { shape: [2], dtype: "float32" } } }] },
    { tokens: { shape: [1, 4], dtype: "int32" } },
  );
  assert.deepEqual(compiled.graph.inputNames, ["params.h.0.attn.weight", "batch.tokens"]);
});

test("compile prepares a program from types, and run checks its arguments", async () => {
  const f = jit((x: Tensor) => sum(x), { backend, name: "total" });
  const compiled = f.compile({ shape: [3], dtype: "float32" });
  assert.equal((await compiled.run(vector(1, 2, 3))).item(), 6);
  assert.equal(f.programs, 1);
  await assert.rejects(
    compiled.run(vector(1, 2)),
    /total: expected arguments float32\[3\].*got float32\[2\].*Fix: compile/,
  );
});

test("consumes donated arrays only", async () => {
  const f = jit((state: { x: Tensor }, y: Tensor) => add(state.x, y), { backend, donate: [0] });
  const x = vector(1, 2);
  const y = vector(3, 4);
  assert.deepEqual([...(await f({ x }, y)).data], [4, 6]);
  assert.ok(x.isDonated);
  assert.ok(!y.isDonated);
  await assert.rejects(f({ x }, y), /was donated/);
});

test("refuses a donated array that is passed twice", async () => {
  const f = jit((a: Tensor, b: Tensor) => add(a, b), { backend, donate: [0], name: "step" });
  const x = vector(1, 2);
  await assert.rejects(f(x, x), /step: a and b share memory and one of them is donated. Fix: copy/);
  assert.ok(!x.isDonated);
});

test("names what is not an array among arguments and results", async () => {
  const f = jit((x: Tree<Tensor>) => x as Tensor, { backend, name: "f" });
  await assert.rejects(f({ a: new Map() } as never), /f: expected arrays.*got a Map at 0.a. Fix: pass an NdArray/);
  const g = jit((x: Tensor) => ({ x, why: "text" }), { backend, name: "g" });
  await assert.rejects(g(vector(1)), /g: expected tensors or numbers.*got string at result.why/);
  const h = jit(async (x: Tensor) => x, { backend, name: "h" });
  await assert.rejects(h(vector(1)) as Promise<unknown>, /h: expected tensors from the traced function, got a Promise/);
});

test("errors while tracing name op and shapes", async () => {
  const f = jit((a: Tensor, b: Tensor) => matmul(a, b), { backend });
  const a = NdArray.zeros("float32", [2, 3]);
  await assert.rejects(f(a, a), /matmul: expected .*\[2,3\]/);
  // A failed trace leaves nothing behind.
  assert.equal(f.programs, 0);
});

test("traces gradients", async () => {
  const f = jit(
    (params: { w: Tensor }, x: Tensor) => {
      const { value, grads } = valueAndGrad((p: { w: Tensor }, v: Tensor) => sum(mul(mul(p.w, p.w), v)))(params, x);
      return { value, grads };
    },
    { backend },
  );
  const out = await f({ w: vector(1, 2, 3) }, vector(4, 5, 6));
  assert.equal(out.value.item(), 4 + 20 + 54);
  assert.deepEqual([...out.grads.w.data], [8, 20, 36]);
});

test("outputs may be inputs, constants and each other", async () => {
  const f = jit((x: Tensor) => ({ x, again: x, one: 1, y: add(x, 0) }), { backend, donate: [0] });
  const out = await f(vector(5, 6));
  assert.deepEqual([...out.x.data], [5, 6]);
  assert.deepEqual([...out.again.data], [5, 6]);
  assert.deepEqual([...out.y.data], [5, 6]);
  assert.equal(out.one.item(), 1);
  out.x.data[0] = 9;
  assert.equal(out.again.data[0], 5);
});

test("an input that the trace did not make is refused", () => {
  const foreign = input({ shape: [1], dtype: "float32" });
  const f = jit((x: Tensor) => add(x, foreign), { backend });
  assert.throws(() => f.compile({ shape: [1], dtype: "float32" }), /another trace/);
});
