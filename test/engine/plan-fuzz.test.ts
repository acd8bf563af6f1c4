import assert from "node:assert/strict";
import { test } from "node:test";
import {
  add,
  broadcastTo,
  createBackend,
  HostRandom,
  jit,
  matmul,
  mul,
  NdArray,
  reshape,
  slice,
  split,
  sub,
  sum,
  type Tensor,
  tanh,
  transpose,
} from "../../src/engine/index.ts";

/** More for a long run: PLINTH_FUZZ_GRAPHS=5000. */
const graphs = Number(process.env["PLINTH_FUZZ_GRAPHS"] ?? 80);
const n = 34;

/** A random function of square matrices whose outputs overlap, repeat and pass inputs on. */
function randomFunction(random: HostRandom): (...inputs: Tensor[]) => Tensor[] {
  const moves: ((pick: () => Tensor) => Tensor[])[] = [
    (pick) => [tanh(add(pick(), pick()))],
    (pick) => [sub(pick(), mul(pick(), 0.5))],
    (pick) => [mul(matmul(pick(), pick()), 1 / n)],
    (pick) => [transpose(pick(), [1, 0])],
    (pick) => [mul(pick(), mul(sum(pick(), { axes: [1], keepDims: true }), 1 / n))],
    (pick) => [add(pick(), mul(sum(pick(), { axes: [0] }), 1 / n))],
    (pick) => {
      const [top, bottom] = split(pick(), 2, { axis: 0 }) as [Tensor, Tensor];
      return [reshape(broadcastTo(reshape(add(top, bottom), [1, n / 2, n]), [2, n / 2, n]), [n, n])];
    },
    (pick) => [broadcastTo(slice(pick(), { starts: [3, 0], limits: [4, n] }), [n, n])],
  ];
  const plan = Array.from({ length: 4 + random.int(12) }, () => ({
    move: random.int(moves.length),
    operands: Array.from({ length: 3 }, () => random.int(1000)),
  }));
  const chosen = Array.from({ length: 1 + random.int(5) }, () => random.int(1000));
  return (...inputs) => {
    const pool = [...inputs];
    for (const { move, operands } of plan) {
      let next = 0;
      // Mostly recent values, so that memory is reused early.
      const pick = (): Tensor => pool[Math.max(0, pool.length - 1 - ((operands[next++] as number) % 6))] as Tensor;
      pool.push(...(moves[move] as (typeof moves)[number])(pick));
    }
    return chosen.map((i) => pool[i % pool.length] as Tensor);
  };
}

test("random programs with donated inputs compute the same and touch nothing else", async () => {
  const native = createBackend("native");
  const reference = createBackend("reference");
  let aliased = 0;
  for (let seed = 1; seed <= graphs; seed++) {
    const random = new HostRandom(seed);
    const fn = randomFunction(random);
    const count = 1 + random.int(3);
    const donate = Array.from({ length: count }, (_, i) => i).filter(() => random.int(2) === 0);
    const values = Array.from({ length: count }, () =>
      Float32Array.from({ length: n * n }, () => random.uniform() * 2 - 1),
    );
    const arrays = () => values.map((data) => NdArray.float32([n, n], data.slice()));
    const expected = await jit(fn, { backend: reference })(...arrays());
    const given = arrays();
    const memory = given.map((array) => array.data);
    const compiled = jit(fn, { backend: native, donate });
    // Twice: the arena of the second run holds what the first left.
    await jit(fn, { backend: native })(...arrays());
    const actual = await compiled(...given);
    actual.forEach((array, i) => {
      const e = expected[i] as NdArray;
      array.data.forEach((value, k) => {
        const error = Math.abs(value - (e.data[k] as number));
        assert.ok(error < 1e-4, `seed ${seed}, output ${i}, element ${k}: ${value} instead of ${e.data[k]}`);
      });
    });
    assert.equal(new Set(actual.map((array) => array.data.buffer)).size, actual.length, `seed ${seed}: shared outputs`);
    memory.forEach((data, i) => {
      if (!donate.includes(i)) assert.deepEqual(data, values[i], `seed ${seed}: input ${i} was overwritten`);
      if (actual.some((array) => array.data.buffer === data.buffer)) {
        assert.ok(donate.includes(i), `seed ${seed}: input ${i} returned although not donated`);
        aliased++;
      }
    });
  }
  assert.ok(aliased > graphs / 8, `only ${aliased} donated inputs were reused`);
});
