import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  add,
  attention,
  cast,
  createBackend,
  crossEntropy,
  fillNormal,
  gelu,
  jit,
  layerNorm,
  matmul,
  mul,
  NdArray,
  type Precision,
  reshape,
  type Shape,
  silu,
  split,
  sum,
  type Tensor,
  topologicalOrder,
  transpose,
  valueAndGrad,
  verifyGraph,
} from "../../src/engine/index.ts";

const native = createBackend("native");
let seed = 0;
function normal(shape: Shape, std = 1): NdArray {
  const array = NdArray.zeros("float32", shape);
  fillNormal(array.data as Float32Array, { seed: seed++, std });
  return array;
}
const bits = (array: NdArray): Buffer => {
  const { buffer, byteOffset, byteLength } = array.data;
  return Buffer.from(buffer, byteOffset, byteLength);
};

describe("epilogues of products", () => {
  const x = normal([3, 37, 24]);
  const w = normal([24, 50]);
  const bias = normal([50]);
  const other = normal([3, 37, 50]);
  const rows = normal([3, 1, 50]);
  const product = (x: Tensor, w: Tensor): Tensor => matmul(x, w);
  type Tail = (p: Tensor, bias: Tensor, other: Tensor, rows: Tensor) => readonly Tensor[];
  const tails: Record<string, Tail> = {
    "bias and activation": (p, bias) => [gelu(add(p, bias), { approximate: true })],
    "several outputs, the product among them": (p, bias, other) => [p, silu(p), mul(add(p, bias), other)],
    "rounded in between": (p, bias) => [gelu(cast(cast(add(p, bias), "bfloat16"), "float32"))],
    "narrow outputs": (p, _, other) => [cast(p, "bfloat16"), cast(mul(p, other), "float16")],
    "an operand repeated over the middle axis": (p, _, other, rows) => [add(mul(p, rows), other)],
  };
  for (const [name, tail] of Object.entries(tails)) {
    test(`${name}: the bits of separate kernels`, async () => {
      const together = jit(
        (x: Tensor, w: Tensor, bias: Tensor, other: Tensor, rows: Tensor) => tail(product(x, w), bias, other, rows),
        { backend: native },
      );
      const [first, second] = [jit(product, { backend: native }), jit(tail, { backend: native })];
      const compiled = together.compile(x, w, bias, other, rows);
      const expected = await second(await first(x, w), bias, other, rows);
      const actual = await compiled.run(x, w, bias, other, rows);
      expected.forEach((array, i) => {
        assert.deepEqual(bits(actual[i] as NdArray), bits(array), `output ${i}`);
      });
      assert.ok(compiled.stats.instructions <= 2, `${compiled.stats.instructions} kernel calls`);
      assert.equal(compiled.stats.flops, 2 * 3 * 37 * 24 * 50);
    });
  }

  test("a product whose operand the same group would make stays apart", async () => {
    const fn = (x: Tensor, w: Tensor): Tensor => {
      const a = gelu(x);
      return add(mul(matmul(a, w), a), transpose(matmul(a, a), [1, 0]));
    };
    const [x, w] = [normal([16, 16]), normal([16, 16])];
    const [ours] = [await jit(fn, { backend: native })(x, w)];
    const oracle = await jit(fn, { backend: createBackend("reference") })(x, w);
    ours.data.forEach((value, i) => {
      assert.ok(Math.abs(value - (oracle.data[i] as number)) < 1e-4);
    });
  });
});

const [B, T, D, H, V] = [2, 11, 32, 4, 23];
const shapes: Record<string, Shape> = {
  table: [V, D],
  gain: [D],
  shift: [D],
  qkv: [D, 3 * D],
  qkvBias: [3 * D],
  out: [D, D],
  up: [D, 4 * D],
  upBias: [4 * D],
  gate: [D, 4 * D],
  down: [4 * D, D],
};
type Params<X> = Record<keyof typeof shapes, X>;
const params = Object.fromEntries(
  Object.entries(shapes).map(([name, shape]) => [name, normal(shape, 0.3)]),
) as Params<NdArray>;

/** A block with attention, a gated and an ungated path, and a head: x[B,T,D] -> logits[B,T,V]. */
function logitsOf(p: Params<Tensor>, x: Tensor): Tensor {
  const [B, T] = x.shape as [number, number];
  const at = (name: string): Tensor => p[name] as Tensor;
  const norm = (x: Tensor): Tensor => layerNorm(x, at("gain"), at("shift"), { eps: 1e-5 });
  const heads = (t: Tensor): Tensor => reshape(t, [B, T, H, D / H]);
  const [q, k, v] = split(add(matmul(norm(x), at("qkv")), at("qkvBias")), 3, { axis: 2 }).map(heads);
  const mixed = reshape(attention(q as Tensor, k as Tensor, v as Tensor, { causal: true }), [B, T, D]);
  const x1 = add(x, matmul(mixed, at("out")));
  const h = norm(x1);
  const wide = mul(gelu(add(matmul(h, at("up")), at("upBias")), { approximate: true }), silu(matmul(h, at("gate"))));
  return matmul(norm(add(x1, matmul(wide, at("down")))), at("table"), { transposeB: true });
}

const x = normal([B, T, D]);
const targets = NdArray.int32(
  [B * T],
  Int32Array.from({ length: B * T }, (_, i) => (i * 5) % V),
);

const infer = (precision: Precision, backend = native) => jit(logitsOf, { precision, backend });
const train = (precision: Precision, backend = native) =>
  jit(
    (p: Params<Tensor>, x: Tensor, targets: Tensor) => {
      const { value, grads, aux } = valueAndGrad(
        (p: Params<Tensor>) => {
          const logits = logitsOf(p, x);
          return [sum(crossEntropy(reshape(logits, [B * T, V]), targets)), logits] as const;
        },
        { hasAux: true },
      )(p);
      return { loss: value, grads, logits: aux };
    },
    { precision, backend },
  );

describe("bf16", () => {
  test("training and inference give the same logits, bit for bit", async () => {
    const { logits } = await train("bf16")(params, x, targets);
    assert.deepEqual(bits(logits), bits(await infer("bf16")(params, x)));
  });

  test("a row's logits depend on neither the batch nor the threads", async () => {
    const whole = await infer("bf16")(params, x);
    const one = NdArray.float32([1, T, D], (x.data as Float32Array).slice(T * D));
    const alone = await infer("bf16")(params, one);
    assert.deepEqual(alone.data, whole.data.slice(T * V));
    const threads = native.threads?.() ?? 1;
    native.setThreads?.(threads === 1 ? 2 : 1);
    const other = await train("bf16")(params, x, targets);
    native.setThreads?.(threads);
    const first = await train("bf16")(params, x, targets);
    for (const name of Object.keys(shapes)) {
      assert.deepEqual(bits(other.grads[name] as NdArray), bits(first.grads[name] as NdArray), name);
    }
  });

  test("native and reference agree, and bf16 is near f32", async () => {
    const ours = await train("bf16")(params, x, targets);
    const oracle = await train("bf16", createBackend("reference"))(params, x, targets);
    const exact = await train("f32")(params, x, targets);
    for (const name of Object.keys(shapes)) {
      const [a, b, c] = [ours, oracle, exact].map((r) => (r.grads[name] as NdArray).data as Float32Array) as [
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      // Sums of another order may end on the other side of a rounding.
      assert.ok(distance(a, b) < 1e-2, `${name}: ${distance(a, b)} from the reference`);
      assert.ok(distance(a, c) < 4e-2, `${name}: ${distance(a, c)} from float32`);
      assert.ok(distance(a, b) < distance(a, c), `${name}: nearer to float32 than to the reference`);
    }
  });

  test("what only products read is stored in bfloat16, the residual stream and the logits are not", () => {
    const compiled = train("bf16").compile(params, x, targets);
    verifyGraph(compiled.graph);
    const order = topologicalOrder(compiled.graph.outputs);
    for (const node of order) {
      if (node.op.operands !== undefined) assert.equal(node.attrs["operands"], "bfloat16", node.op.name);
      if (node.op.name === "layerNorm") {
        const readers = order.filter((user) => user.inputs.some((t) => t.node === node && t.index === 0));
        assert.deepEqual([...new Set(readers.map((user) => user.op.name))], ["cast"]);
      }
      if (node.op.name === "crossEntropy") assert.equal(node.inputs[0]?.dtype, "float32");
    }
    assert.ok(compiled.stats.arenaBytes < train("f32").compile(params, x, targets).stats.arenaBytes);
  });

  test("f32 changes nothing", () => {
    const plain = jit(logitsOf, { backend: native }).compile(params, x);
    assert.ok(topologicalOrder(infer("f32").compile(params, x).graph.outputs).every((n) => n.op.name !== "cast"));
    assert.equal(plain.stats.arenaBytes, infer("f32").compile(params, x).stats.arenaBytes);
  });
});

/** Root mean square of the difference, against that of b. */
function distance(a: Float32Array, b: Float32Array): number {
  let [difference, size] = [0, 0];
  b.forEach((value, i) => {
    difference += ((a[i] as number) - value) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}
