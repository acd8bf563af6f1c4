import { HostRandom, hostInfo } from "../src/engine/index.ts";
import { sizeOf } from "../src/engine/ir/shape.ts";
import { kernelOperand, kernelTimer } from "./kernel-timer.ts";
import { type BenchRow, median, missingModule, Peer, settle } from "./peer.ts";

interface Case {
  readonly name: string;
  readonly x: readonly number[];
  readonly weight: readonly number[];
  readonly stride?: number;
  readonly padding?: number;
  readonly groups?: number;
}

const cases: readonly Case[] = [
  { name: "3x3, 64 channels, 56x56, batch 4", x: [4, 64, 56, 56], weight: [64, 64, 3, 3], padding: 1 },
  { name: "3x3, 256 channels, 14x14, batch 4", x: [4, 256, 14, 14], weight: [256, 256, 3, 3], padding: 1 },
  {
    name: "3x3 stride 2, 64 to 128, 56x56, batch 4",
    x: [4, 64, 56, 56],
    weight: [128, 64, 3, 3],
    stride: 2,
    padding: 1,
  },
  { name: "7x7 stride 2, RGB, 224x224, batch 4", x: [4, 3, 224, 224], weight: [64, 3, 7, 7], stride: 2, padding: 3 },
  { name: "1x1, 256 to 64, 56x56, batch 4", x: [4, 256, 56, 56], weight: [64, 256, 1, 1] },
  { name: "16x16 patches to 768, 224x224, batch 4", x: [4, 3, 224, 224], weight: [768, 3, 16, 16], stride: 16 },
  { name: "Whisper's 1-D, 80 to 384, 3000", x: [1, 80, 3000], weight: [384, 80, 3], padding: 1 },
  { name: "Whisper's 1-D stride 2, 384, 3000", x: [1, 384, 3000], weight: [384, 384, 3], stride: 2, padding: 1 },
  {
    name: "depthwise 7x7, 96 channels, 56x56, batch 4",
    x: [4, 96, 56, 56],
    weight: [96, 1, 7, 7],
    padding: 3,
    groups: 96,
  },
];
const passes = ["forward", "input gradient", "weight gradient"] as const;

/**
 * Float32 convolutions and their gradients against PyTorch (oneDNN), milliseconds as GFLOP/s. Sides take turns; medians.
 */
export async function benchConv(options: { rounds?: number; turnSeconds?: number } = {}): Promise<readonly BenchRow[]> {
  const { rounds = 5, turnSeconds = 0.03 } = options;
  const absent = missingModule("torch");
  const threads = hostInfo().threads;
  const peer = absent === undefined ? new Peer("torch_conv.py", [], { OMP_NUM_THREADS: String(threads) }) : undefined;
  const version = await peer?.ask<{ version: string }>({ threads });
  const rows: BenchRow[] = [];
  const ratios: number[] = [];
  for (const c of cases) {
    for (const pass of passes) {
      const ours = own(c, pass);
      const theirs = async (repeats: number): Promise<number> =>
        (await (peer as Peer).ask<{ seconds: number }>({ ...c, pass, repeats })).seconds;
      const sides = peer === undefined ? [ours.run] : [ours.run, theirs];
      const times: number[][] = sides.map(() => []);
      const repeats: number[] = [];
      for (const side of sides) {
        await side(1);
        repeats.push(Math.max(1, Math.min(500, Math.round(turnSeconds / (await side(2))))));
      }
      for (let round = 0; round < rounds; round++) {
        for (const [i, side] of sides.entries()) {
          await settle(20);
          times[i]?.push(await side(repeats[i] as number));
        }
      }
      const rate = (list: readonly number[]): number => ours.flops / median(list) / 1e9;
      const value = rate(times[0] as number[]);
      const row = { name: `conv ${c.name}: ${pass}`, value, unit: "GFLOP/s" };
      if (times[1] === undefined) {
        rows.push({ ...row, peer: "PyTorch", note: `skipped: ${absent}` });
        continue;
      }
      const peerValue = rate(times[1]);
      ratios.push(value / peerValue);
      rows.push({ ...row, peer: `PyTorch ${version?.version.split("+")[0]}`, peerValue, ratio: value / peerValue });
    }
  }
  peer?.close();
  if (ratios.length > 0) {
    const mean = Math.exp(ratios.reduce((sum, x) => sum + Math.log(x), 0) / ratios.length);
    rows.push({
      name: "convolutions, geometric mean",
      value: mean,
      unit: "x",
      peer: "PyTorch",
      peerValue: 1,
      ratio: mean,
    });
  }
  return rows;
}

/** The kernel alone. */
function own(c: Case, pass: (typeof passes)[number]): { run: (repeats: number) => Promise<number>; flops: number } {
  const axes = c.x.length - 2;
  const all = (n: number): number[] => new Array<number>(axes).fill(n);
  const [stride, padding] = [c.stride ?? 1, c.padding ?? 0];
  const out = c.x.slice(2).map((n, i) => Math.floor((n + 2 * padding - (c.weight[2 + i] as number)) / stride) + 1);
  const y = [c.x[0] as number, c.weight[0] as number, ...out];
  const random = new HostRandom(1);
  const memory = (shape: readonly number[]) => kernelOperand(shape, "float32", () => random.uniform() - 0.5);
  const [kernel, first, second, result] =
    pass === "forward"
      ? (["conv", c.x, c.weight, y] as const)
      : pass === "input gradient"
        ? (["conv_input_grad", y, c.weight, c.x] as const)
        : (["conv_weight_grad", c.x, y, c.weight] as const);
  const run = kernelTimer({
    kernel,
    inputs: [memory(first), memory(second)],
    outputs: [memory(result)],
    ints: [0, c.groups ?? 1, axes, ...all(stride), ...all(padding), ...all(1)],
  });
  return { run, flops: 2 * sizeOf(y) * sizeOf(c.weight.slice(1)) };
}
