import { HostRandom, hostInfo, measureLimits } from "../src/engine/index.ts";
import { encodeHost } from "../src/engine/ir/convert.ts";
import { kernelOperand, kernelTimer } from "./kernel-timer.ts";
import { type BenchRow, median, missingModule, Peer, settle } from "./peer.ts";

interface Case {
  readonly name: string;
  readonly sizes: readonly [B: number, T: number, S: number, H: number, G: number, K: number];
  readonly causal: boolean;
}

const cases: readonly Case[] = [
  { name: "GPT-2 124M, 2 x 512", sizes: [2, 512, 512, 12, 12, 64], causal: true },
  { name: "GPT-2 124M, 1 x 1024", sizes: [1, 1024, 1024, 12, 12, 64], causal: true },
  { name: "GPT-2 124M, 1 x 4096", sizes: [1, 4096, 4096, 12, 12, 64], causal: true },
  { name: "GPT-2 124M, 1 x 8192", sizes: [1, 8192, 8192, 12, 12, 64], causal: true },
  { name: "BERT 110M, 4 x 512", sizes: [4, 512, 512, 12, 12, 64], causal: false },
  { name: "12M GPT, 8 x 256", sizes: [8, 256, 256, 6, 6, 64], causal: true },
  { name: "heads of 32, 2 x 512", sizes: [2, 512, 512, 12, 12, 32], causal: true },
  { name: "heads of 80, 1 x 1024", sizes: [1, 1024, 1024, 8, 8, 80], causal: true },
  { name: "heads of 96, 1 x 1024", sizes: [1, 1024, 1024, 8, 8, 96], causal: true },
  { name: "heads of 128, 1 x 1024", sizes: [1, 1024, 1024, 8, 8, 128], causal: true },
  { name: "32 heads on 8, 1 x 1024", sizes: [1, 1024, 1024, 32, 8, 64], causal: true },
  { name: "1 head, 1 x 2048", sizes: [1, 2048, 2048, 1, 1, 64], causal: true },
  { name: "cross-attention, 448 on 1500", sizes: [1, 448, 1500, 6, 6, 64], causal: false },
  { name: "decoding, cache of 4096", sizes: [1, 1, 4096, 32, 8, 128], causal: false },
];
const passes = ["forward", "backward"] as const;
const dtypes = ["float32", "bfloat16"] as const;
type Pass = (typeof passes)[number];

export interface AttentionBenchOptions {
  readonly rounds?: number;
  readonly turnSeconds?: number;
  /** Leaves out longer contexts. */
  readonly longest?: number;
}

/**
 * Attention in float32 and with bfloat16 operands, forward and backward, against PyTorch's fused kernel and the machine's
 * measured limit. Products count, half of them where causal masking hides half (five backward, two forward), so the exponentials
 * are overhead. Sides take turns; figures are medians.
 */
export async function benchAttention(options: AttentionBenchOptions = {}): Promise<readonly BenchRow[]> {
  const { rounds = 5, turnSeconds = 0.05, longest = Number.POSITIVE_INFINITY } = options;
  const absent = missingModule("torch");
  const threads = hostInfo().threads;
  const peer =
    absent === undefined ? new Peer("torch_attention.py", [], { OMP_NUM_THREADS: String(threads) }) : undefined;
  const version = await peer?.ask<{ version: string }>({ threads });
  const limits = measureLimits({ seconds: 1 });
  const rows: BenchRow[] = [];
  for (const dtype of dtypes) {
    const limit = (dtype === "bfloat16" ? limits.bfloat16Gflops : undefined) ?? limits.gflops;
    for (const pass of passes) {
      const ratios: number[] = [];
      const shares: number[] = [];
      for (const c of cases) {
        const [, T, S] = c.sizes;
        if (S > longest || (T === 1 && pass === "backward")) continue;
        const ours = own(c, pass, dtype);
        const theirs = async (repeats: number): Promise<number> =>
          (await (peer as Peer).ask<{ seconds: number }>({ ...c, pass, dtype, repeats })).seconds;
        const times = await race(peer === undefined ? [ours.run] : [ours.run, theirs], rounds, turnSeconds);
        const rate = (list: readonly number[]): number => ours.flops / median(list) / 1e9;
        const value = rate(times[0] as number[]);
        const row = { name: `attention ${dtype} ${pass}: ${c.name}`, value, unit: "GFLOP/s" };
        if (T >= 512) shares.push(value / limit);
        if (times[1] === undefined) {
          rows.push({ ...row, peer: "PyTorch", note: `skipped: ${absent}` });
          continue;
        }
        const peerValue = rate(times[1]);
        ratios.push(value / peerValue);
        rows.push({
          ...row,
          peer: `PyTorch ${version?.version.split("+")[0]}`,
          peerValue,
          ratio: value / peerValue,
          target: 1,
        });
      }
      const name = `attention ${dtype} ${pass}, geometric mean`;
      if (ratios.length > 0) {
        const ratio = geometricMean(ratios);
        rows.push({ name, value: ratio, unit: "x", peer: "PyTorch", peerValue: 1, ratio, target: 1 });
      }
      const share = geometricMean(shares);
      rows.push({
        name: `${name} of 512 and longer`,
        value: share * limit,
        unit: "GFLOP/s",
        peer: "measured limit",
        peerValue: limit,
        ratio: share,
        target: pass === "forward" ? 0.6 : 0.5,
      });
    }
  }
  peer?.close();
  return rows;
}

const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, x) => sum + Math.log(x), 0) / values.length);

/** Seconds per call of each side, one figure per round. */
async function race(
  sides: readonly ((repeats: number) => Promise<number>)[],
  rounds: number,
  turnSeconds: number,
): Promise<number[][]> {
  const repeats: number[] = [];
  for (const side of sides) {
    await side(1);
    repeats.push(Math.max(1, Math.min(500, Math.round(turnSeconds / (await side(1))))));
    await side(repeats.at(-1) as number);
  }
  const times: number[][] = sides.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, side] of sides.entries()) {
      await settle(20);
      times[i]?.push(await side(repeats[i] as number));
    }
  }
  return times;
}

/** The kernel alone. */
function own(
  c: Case,
  pass: Pass,
  dtype: (typeof dtypes)[number],
): { run: (repeats: number) => Promise<number>; flops: number } {
  const [B, T, S, H, G, K] = c.sizes;
  const random = new HostRandom(1);
  const draws = encodeHost(
    dtype,
    Array.from({ length: 4096 }, () => random.uniform() * 2 - 1),
  );
  const queries = () => kernelOperand([B, T, H, K], dtype, (i) => draws[i % draws.length] as number);
  const keys = () => kernelOperand([B, S, G, K], dtype, (i) => draws[i % draws.length] as number);
  const [q, k, v, out, lse] = [queries(), keys(), keys(), queries(), kernelOperand([B, H, T], "float32")];
  const forward = pass === "forward";
  const run = kernelTimer({
    kernel: forward ? "attention" : "attention_grad",
    inputs: forward ? [q, k, v] : [q, k, v, out, lse, queries()],
    outputs: forward ? [out, lse] : [queries(), keys(), keys()],
    ints: [c.causal ? 1 : 0, 0, 0, 0, dtype === "bfloat16" ? 1 : 0, 0, 0, 0],
    floats: [1 / Math.sqrt(K), 0, 0],
    workspaceBytes: forward ? 0 : 2 * Math.ceil(16 / G) * B * S * G * K * 4,
  });
  return { run, flops: (forward ? 4 : 10) * B * H * T * S * K * (c.causal ? 0.5 : 1) };
}
