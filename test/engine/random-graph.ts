import { vjp } from "../../src/engine/autodiff/index.ts";
import type { Graph } from "../../src/engine/ir/graph.ts";
import type { NdArray } from "../../src/engine/ir/nd-array.ts";
import { type Shape, sameShape, sizeOf } from "../../src/engine/ir/shape.ts";
import type { Tensor } from "../../src/engine/ir/tensor.ts";
import * as ops from "../../src/engine/ops/index.ts";
import { HostRandom } from "../../src/engine/random.ts";
import { generate } from "./contract-support.ts";

const nodesPerGraph = 24;

/** A random program of elementwise ops, views, reductions, products and composites whose values stay moderate. */
export function randomGraph(seed: number): { graph: Graph; arrays: NdArray[]; valueCount: number } {
  const random = new HostRandom(seed);
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)] as T;
  const size = (): number => pick([1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 67]);
  const arrays: NdArray[] = [];
  const inputs: Tensor[] = [];
  const fresh = (shape: Shape): Tensor => {
    const array = generate({ shape, dtype: "float32" }, random);
    arrays.push(array);
    const t = ops.input(array);
    inputs.push(t);
    return t;
  };
  const pool: Tensor[] = [fresh([size(), size()]), fresh([size(), size(), size()]), fresh([size()])];
  const tame = (t: Tensor): Tensor => (random.int(3) === 0 ? ops.tanh(t) : t);
  const axisOf = (t: Tensor): number => random.int(t.rank);
  const ranked = (rank: number): Tensor =>
    pool.filter((t) => t.rank >= rank).at(-1 - random.int(2)) ?? fresh([3, 5, 7]);

  const moves: readonly (() => Tensor[])[] = [
    () => [pick([ops.tanh, ops.sigmoid, ops.neg, ops.sin, ops.relu, ops.abs, ops.silu, ops.gelu])(pick(pool))],
    () => [ops.mul(pick(pool), 0.5), ops.add(pick(pool), 0.25)],
    () => {
      const a = pick(pool);
      const same = pool.filter((t) => sameShape(t.shape, a.shape));
      return [tame(pick([ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum])(a, pick(same)))];
    },
    () => {
      const a = ranked(1);
      const kept = a.shape.map((n) => (random.int(2) === 0 ? n : 1)).slice(random.int(a.rank));
      return [tame(pick([ops.add, ops.sub, ops.mul])(fresh(kept), a))];
    },
    () => {
      const a = ranked(1);
      const axes = a.shape.flatMap((_, i) => (random.int(2) === 0 ? [i] : []));
      return [pick([ops.mean, ops.max])(a, { axes, keepDims: random.int(2) === 0 })];
    },
    () => {
      const a = ranked(1);
      return [ops.sub(a, ops.mean(a, { axes: -1, keepDims: true }))];
    },
    () => {
      const a = ranked(2);
      return [ops.transpose(a, random.shuffle(a.shape.map((_, i) => i)))];
    },
    () => {
      const a = ranked(1);
      return [ops.reshape(a, pick([[-1], [1, -1], [...a.shape, 1], [a.shape[0] as number, -1]]))];
    },
    () => {
      const a = ranked(1);
      const starts = a.shape.map((n) => random.int(n));
      return [
        ops.slice(a, {
          starts,
          limits: a.shape.map((n, i) => (starts[i] as number) + 1 + random.int(n - (starts[i] as number))),
        }),
      ];
    },
    () => {
      const a = ranked(1);
      return [ops.concat([a, pick([ops.neg, ops.tanh])(a)], { axis: axisOf(a) })];
    },
    () => {
      const a = ranked(1);
      const axis = axisOf(a);
      const first = random.int((a.shape[axis] as number) + 1);
      return ops.split(a, [first, (a.shape[axis] as number) - first], { axis }).filter((t) => sizeOf(t.shape) > 0);
    },
    () => {
      const a = ranked(2);
      const k = a.shape.at(-1) as number;
      const n = size();
      const transposeB = random.int(2) === 0;
      return [ops.mul(ops.matmul(a, fresh(transposeB ? [n, k] : [k, n]), { transposeB }), 1 / Math.sqrt(k))];
    },
    () => {
      const a = ranked(2);
      return [ops.mul(ops.matmul(a, a, { transposeA: true }), 1 / (a.shape.at(-2) as number))];
    },
    () => [ops.softmax(ranked(1))],
    () => {
      const a = ranked(1);
      const width = a.shape.slice(-1);
      return [ops.layerNorm(a, fresh(width), fresh(width), { eps: 0.1 })];
    },
    () => {
      const a = pick(pool);
      return [ops.select(ops.less(a, 0.123), ops.mul(a, 0.3), ops.add(a, 1))];
    },
    () => {
      const a = ranked(1);
      const low = a.shape.map(() => random.int(2));
      return [ops.pad(a, { low, high: low })];
    },
    () => {
      const a = ranked(1);
      return [ops.sum(a, { axes: [axisOf(a)] })].map((t) => ops.tanh(t));
    },
    () => {
      // Integers that decide: which columns are kept, which rows are looked up.
      const a = ranked(1);
      const axis = axisOf(a);
      const position = ops.mul(ops.add(ops.iota(a.shape, { axis }), random.int(3)), 3);
      const isKept = ops.logicalOr(ops.less(position, random.int(20)), ops.equal(position, 9));
      return [ops.select(isKept, a, ops.mul(a, -0.5))];
    },
    () => {
      const a = ranked(2);
      const rows = a.shape[0] as number;
      const ids = ops.constant(Int32Array.from({ length: size() }, () => random.int(rows)));
      const picked = ops.gather(a, ids);
      return [picked, ops.tanh(ops.scatterAdd(ids, ops.sin(picked), { rows }))];
    },
    () => {
      const a = ranked(2);
      const [rows, width] = [sizeOf(a.shape.slice(0, -1)), a.shape.at(-1) as number];
      const ids = ops.constant(Int32Array.from({ length: rows }, () => random.int(width + 1) - 1));
      return [ops.crossEntropy(ops.reshape(a, [rows, width]), ids, { ignoreIndex: -1 })];
    },
    () => {
      const a = ranked(2);
      return [ops.rmsNorm(a, fresh(a.shape.slice(-1)), { eps: 0.1 })];
    },
    () => {
      // Numbers that bfloat16 holds exactly, so that rounding an intermediate changes nothing.
      const a = ranked(2);
      const coarse = ops.cast(ops.select(ops.less(a, 0.123), 1.5, -2), "bfloat16");
      const k = a.shape.at(-1) as number;
      return [ops.add(coarse, a), ops.mul(ops.matmul(a, coarse, { transposeB: true }), 1 / k)];
    },
    () => {
      const [T, G, R, K] = [size(), pick([1, 2]), pick([1, 3]), pick([2, 4, 10])] as [number, number, number, number];
      const [q, k, v] = ops.split(fresh([2, T, (G * R + 2 * G) * K]), [G * R * K, G * K, G * K], { axis: 2 });
      const positions = ops.add(ops.iota([2, T], { axis: 1 }), 3);
      const heads = (t: Tensor, n: number) => ops.reshape(t, [2, T, n, K]);
      const turned = ops.rope(heads(k as Tensor, G), positions, fresh([K / 2]), { interleaved: random.int(2) === 0 });
      const options = { causal: random.int(2) === 0 };
      const y = ops.attention(heads(q as Tensor, G * R), turned, heads(v as Tensor, G), options);
      return [ops.reshape(y, [2, T, -1])];
    },
  ];
  for (let i = 0; i < nodesPerGraph; i++) {
    for (const t of pick(moves)()) if (sizeOf(t.shape) <= 16384 && t.rank <= 5) pool.push(t);
  }
  const made = pool.filter((t) => t.node.op.name !== "input");
  const outputs = [...made.slice(-3), pick(made)];
  const cotangents = outputs.map((t) => ops.cast(ops.sign(ops.sin(fresh(t.shape))), "float32"));
  const wanted = [...inputs.slice(0, -outputs.length)];
  const gradients = vjp(outputs, cotangents, wanted).filter((t) => t !== undefined);
  const graph: Graph = {
    inputs,
    inputNames: inputs.map((_, i) => `x${i}`),
    outputs: [...outputs, ...gradients],
    donated: new Set(inputs.flatMap((_, i) => (random.int(2) === 0 ? [i] : []))),
  };
  return { graph, arrays, valueCount: outputs.length };
}
