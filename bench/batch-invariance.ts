import { hostInfo, jit, matmul, NdArray, reshape, sum, type Tensor, transpose } from "../src/engine/index.ts";
import { type BenchRow, median, missingModule, Peer } from "./peer.ts";
import type { SuiteOptions } from "./suite.ts";

/** [M, K, N]: few elements of long sums, where sharing a sum among threads could pay; and decoding. */
const shapes: readonly (readonly [m: number, k: number, n: number, where: string])[] = [
  [1, 768, 2304, "decoding, GPT-2 attention"],
  [1, 3072, 768, "decoding, GPT-2 feed-forward"],
  [1, 8192, 2048, "decoding, 1B feed-forward"],
  [8, 4096, 4096, "8 rows"],
  [16, 2048, 16, "gradient of a small matrix"],
  [64, 8192, 64, "gradient of a small matrix"],
];

/**
 * What the same bits for any batch cost. Every element of a product is summed in one order that depends on K alone. What
 * that forbids is dividing a sum among threads, which helps when there are few elements; so the same products are made
 * both ways, the peer's as one product per thread of its share of K, and a sum. Then how many elements of a row change
 * when the row is computed alone and with seven others.
 */
export async function benchBatchInvariance({ quick }: SuiteOptions): Promise<readonly BenchRow[]> {
  const parts = Math.max(2, hostInfo().threads);
  const rows: BenchRow[] = [];
  for (const [m, k, n, where] of shapes) {
    const [fixed, split] = await raceOrders([m, k, n], parts, quick ? 3 : 31);
    const rate = (seconds: number): number => (2 * m * k * n) / seconds / 1e9;
    rows.push({
      name: `matmul ${m}x${k} · ${k}x${n} (${where}), fixed order`,
      value: rate(fixed),
      unit: "GFLOP/s",
      peer: `sums split in ${parts}`,
      peerValue: rate(split),
      ratio: split / fixed,
    });
  }
  return [...rows, await changedElements()];
}

/** Median seconds of a product by the fixed order and with its sums split, taking turns. */
async function raceOrders(
  [m, k, n]: readonly [number, number, number],
  parts: number,
  rounds: number,
): Promise<readonly [number, number]> {
  const fixed = jit((a: Tensor, b: Tensor) => matmul(a, b));
  const split = jit((a: Tensor, b: Tensor) => {
    const pieces = transpose(reshape(a, [m, parts, k / parts]), [1, 0, 2]);
    return sum(matmul(pieces, reshape(b, [parts, k / parts, n])), { axes: [0] });
  });
  const [a, b] = [randomMatrix(m, k), randomMatrix(k, n)];
  // Many calls to a turn, so that a turn is longer than the clock's and the scheduler's grain.
  const calls = Math.max(3, Math.ceil(2e8 / (2 * m * k * n)));
  const times: [number[], number[]] = [[], []];
  for (let round = -1; round < rounds; round++) {
    for (const [side, product] of [fixed, split].entries()) {
      const start = performance.now();
      for (let i = 0; i < calls; i++) await product(a, b);
      if (round >= 0) times[side]?.push((performance.now() - start) / 1000 / calls);
    }
  }
  return [median(times[0]), median(times[1])];
}

/** Share of a row's elements whose bits differ between the row alone and the same row among eight. */
async function changedElements(): Promise<BenchRow> {
  const [k, n] = [768, 2304];
  const product = jit((a: Tensor, b: Tensor) => matmul(a, b));
  const [a, b] = [randomMatrix(8, k), randomMatrix(k, n)];
  const together = (await product(a, b)).data as Float32Array;
  const alone = (await product(NdArray.float32([1, k], (a.data as Float32Array).slice(0, k)), b)).data as Float32Array;
  const changed = alone.reduce((count, x, i) => count + (x === together[i] ? 0 : 1), 0);
  const row = {
    name: "elements of a row that change with the batch (8x768 · 768x2304)",
    value: (100 * changed) / n,
    unit: "%",
  };
  const absent = missingModule("torch");
  if (absent !== undefined) return { ...row, note: `no peer: ${absent}` };
  const peer = new Peer("torch_invariance.py");
  const { threads } = hostInfo();
  const { version, share } = await peer.ask<{ version: string; share: number }>({ threads, rows: 8, k, n });
  peer.close();
  return { ...row, peer: `PyTorch ${version.split("+")[0]}`, peerValue: 100 * share };
}

function randomMatrix(rows: number, columns: number): NdArray {
  const data = new Float32Array(rows * columns);
  let state = 1;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = state / 2 ** 31 - 1;
  }
  return NdArray.float32([rows, columns], data);
}
