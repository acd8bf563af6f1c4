import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { packageRoot } from "../src/base/index.ts";
import { HostRandom, hostInfo, measureLimits } from "../src/engine/index.ts";
import { numberToBfloat16 } from "../src/engine/ir/convert.ts";
import { type KernelOperand, kernelOperand, kernelTimer } from "./kernel-timer.ts";
import { type BenchRow, median, missingModule, Peer, python, settle } from "./peer.ts";

/** a[m,k] x b[k,n]; a transposed operand lies in memory as its transpose. */
interface Shape {
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/** Products raced by default. */
export const shapes: Readonly<Record<string, readonly Shape[]>> = {
  cubes: [256, 512, 1024, 2048, 4096].map((n) => ({ m: n, k: n, n })),
  "GPT-2 124M, 2 x 512 tokens": [
    ...(
      [
        [768, 2304],
        [768, 768],
        [768, 3072],
        [3072, 768],
      ] as const
    ).flatMap(([k, n]) => [
      { m: 1024, k, n },
      { m: 1024, k: n, n: k, transposeB: true },
      { m: k, k: 1024, n, transposeA: true },
    ]),
    { m: 1024, k: 768, n: 50257, transposeB: true },
    { m: 1024, k: 50257, n: 768 },
    { m: 50257, k: 1024, n: 768, transposeA: true },
  ],
  "GPT of width 384, 2048 tokens": [
    { m: 2048, k: 384, n: 1152 },
    { m: 2048, k: 384, n: 384 },
    { m: 2048, k: 384, n: 1536 },
    { m: 2048, k: 1536, n: 384 },
    { m: 2048, k: 384, n: 4096, transposeB: true },
    { m: 2048, k: 1536, n: 384, transposeB: true },
    { m: 2048, k: 384, n: 1536, transposeB: true },
    { m: 384, k: 2048, n: 1536, transposeA: true },
    { m: 1536, k: 2048, n: 384, transposeA: true },
    { m: 4096, k: 2048, n: 384, transposeA: true },
  ],
  "GPT of width 128, 768 tokens": [
    { m: 768, k: 128, n: 384 },
    { m: 768, k: 128, n: 512 },
    { m: 768, k: 512, n: 128 },
    { m: 768, k: 512, n: 128, transposeB: true },
    { m: 128, k: 768, n: 512, transposeA: true },
  ],
  "decoding with GPT-2 124M": [
    { m: 1, k: 768, n: 2304 },
    { m: 1, k: 3072, n: 768 },
    { m: 1, k: 768, n: 50257, transposeB: true },
    { m: 4, k: 768, n: 50257, transposeB: true },
  ],
};

/** Element type of operands and result. */
export type BenchDType = "float32" | "bfloat16";

export interface MatmulBenchOptions {
  /** Turns per side and product. */
  readonly rounds?: number;
  /** Length of a turn. */
  readonly turnSeconds?: number;
  readonly dtypes?: readonly BenchDType[];
  /** Names of groups in {@link shapes}. */
  readonly groups?: readonly string[];
}

/**
 * Matrix products of float32 and of bfloat16 (operands and result): Plinth against the machine's measured limit, oneDNN and PyTorch where they are installed. Sides
 * take turns; figures are medians over the turns, in GFLOP/s. Operands are used as they lie, without prepacking.
 */
export async function benchMatmul(options: MatmulBenchOptions = {}): Promise<readonly BenchRow[]> {
  const { rounds = 5, turnSeconds = 0.03, groups = Object.keys(shapes), dtypes = ["float32", "bfloat16"] } = options;
  const peers = await startPeers();
  const limits = measureLimits({ seconds: 1 });
  const rows: BenchRow[] = [];
  for (const dtype of dtypes) {
    const limit = dtype === "bfloat16" ? limits.bfloat16Gflops : limits.gflops;
    const against = new Map<string, number[]>();
    for (const group of groups) {
      const ratios: number[] = [];
      for (const shape of shapes[group] ?? []) {
        const times = await race({ ...shape, dtype }, peers, rounds, turnSeconds);
        const rate = (seconds: readonly number[]): number => (2 * shape.m * shape.k * shape.n) / median(seconds) / 1e9;
        const value = rate(times[0] as number[]);
        ratios.push(value / limit);
        const row = { name: `matmul ${dtype} ${describe(shape)}`, value, unit: "GFLOP/s" };
        const target = group === "cubes" && shape.n === 1024 && dtype === "float32" ? { target: 0.7 } : {};
        if (group === "cubes")
          rows.push({ ...row, peer: "measured limit", peerValue: limit, ratio: value / limit, ...target });
        for (const [i, peer] of peers.entries()) {
          const theirs = peer.process === undefined ? undefined : rate(times[i + 1] as number[]);
          if (theirs === undefined) continue;
          rows.push({ ...row, peer: peer.name, peerValue: theirs, ratio: value / theirs });
          against.set(peer.name, [...(against.get(peer.name) ?? []), value / theirs]);
        }
      }
      const mean = Math.exp(ratios.reduce((sum, x) => sum + Math.log(x), 0) / ratios.length);
      if (!group.startsWith("decoding")) {
        rows.push({
          name: `${dtype}, ${group}, geometric mean`,
          value: mean * limit,
          unit: "GFLOP/s",
          peer: "measured limit",
          peerValue: limit,
          ratio: mean,
        });
      }
    }
    // The worst shape and the mean of all, as ratios.
    for (const [peer, all] of against) {
      const mean = Math.exp(all.reduce((sum, x) => sum + Math.log(x), 0) / all.length);
      const least = Math.min(...all);
      const name = `matmul ${dtype}, all shapes`;
      rows.push({
        name: `${name}, geometric mean`,
        value: mean,
        unit: "ratio",
        peer,
        peerValue: 1,
        ratio: mean,
        target: 0.95,
      });
      rows.push({
        name: `${name}, slowest`,
        value: least,
        unit: "ratio",
        peer,
        peerValue: 1,
        ratio: least,
        target: 0.8,
      });
    }
  }
  for (const peer of peers) {
    peer.process?.close();
    const first = rows[0];
    if (peer.absent === undefined || first === undefined) continue;
    const { name, value, unit } = first;
    rows.push({ name, value, unit, peer: peer.name, note: `skipped: ${peer.absent}` });
  }
  return rows;
}

interface Side {
  readonly name: string;
  readonly process?: Peer;
  readonly absent?: string;
}

async function startPeers(): Promise<readonly Side[]> {
  const threads = hostInfo().threads;
  const sides: Side[] = [];
  const start = async (name: string, process: Peer): Promise<void> => {
    const { version } = await process.ask<{ version: string }>({ threads });
    sides.push({ name: `${name} ${version.split("+")[0]}`, process });
  };
  const onednn = compileOneDnn();
  if (onednn.program === undefined) sides.push({ name: "oneDNN", absent: onednn.absent });
  else await start("oneDNN", new Peer(onednn.program, [], { OMP_NUM_THREADS: String(threads) }));
  const absent = missingModule("torch");
  if (absent !== undefined) sides.push({ name: "PyTorch", absent });
  else await start("PyTorch", new Peer("torch_matmul.py", [], { OMP_NUM_THREADS: String(threads) }));
  return sides;
}

/** The oneDNN rival compiled into build/bench, or why there is none. */
function compileOneDnn(): { readonly program: string } | { readonly program: undefined; readonly absent: string } {
  const folder = join(packageRoot(), "build", "bench");
  mkdirSync(folder, { recursive: true });
  const program = join(folder, "onednn_matmul");
  const source = join(packageRoot(), "bench", "peers", "onednn_matmul.cc");
  const compiler = process.env["CXX"] ?? "c++";
  // The newest that install-peers.sh finds lies beside its Python; else the system's.
  const prefix = join(dirname(python), "..");
  const own = existsSync(join(prefix, "include", "dnnl.hpp"))
    ? [`-I${join(prefix, "include")}`, `-L${join(prefix, "lib")}`, `-Wl,-rpath,${join(prefix, "lib")}`]
    : [];
  const result = spawnSync(compiler, ["-O2", "-std=c++17", source, "-o", program, ...own, "-ldnnl"], {
    encoding: "utf8",
  });
  if (result.status === 0) return { program };
  const reason = result.error?.message ?? /fatal error: .*/.exec(result.stderr)?.[0] ?? "it does not compile";
  return { program: undefined, absent: `${reason}; install oneDNN's headers (Debian: libdnnl-dev)` };
}

/** Seconds per product of each side (ours first), one figure per round. */
async function race(
  shape: Shape & { readonly dtype: BenchDType },
  peers: readonly Side[],
  rounds: number,
  turnSeconds: number,
): Promise<number[][]> {
  const request = {
    ...shape,
    bfloat16: shape.dtype === "bfloat16",
    transposeA: shape.transposeA === true,
    transposeB: shape.transposeB === true,
  };
  const sides: ((repeats: number) => Promise<number>)[] = [ownProduct(shape)];
  for (const { process } of peers) {
    if (process === undefined) continue;
    sides.push(async (repeats) => (await process.ask<{ seconds: number }>({ ...request, repeats })).seconds);
  }
  const repeats: number[] = [];
  for (const side of sides) {
    await side(1);
    repeats.push(Math.max(1, Math.min(maxRepeats, Math.round(turnSeconds / (await side(3))))));
  }
  const times: number[][] = sides.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, side] of sides.entries()) {
      await settle(30);
      times[i]?.push(await side(repeats[i] as number));
    }
  }
  // Absent peers keep their place.
  let next = 1;
  return [
    times[0] as number[],
    ...peers.map((peer) => (peer.process === undefined ? [] : (times[next++] as number[]))),
  ];
}

const maxRepeats = 500;

/** The kernel alone. */
function ownProduct(shape: Shape & { readonly dtype: BenchDType }): (repeats: number) => Promise<number> {
  const { m, k, n, dtype } = shape;
  const random = new HostRandom(1);
  const element = (): number => {
    const x = random.uniform() - 0.5;
    return dtype === "bfloat16" ? numberToBfloat16(x) : x;
  };
  const operand = (rows: number, columns: number, transposed: boolean | undefined): KernelOperand => ({
    ...kernelOperand([rows, columns], dtype, element),
    strides: transposed === true ? [1, rows] : [columns, 1],
  });
  return kernelTimer({
    kernel: "matmul",
    inputs: [operand(m, k, shape.transposeA), operand(k, n, shape.transposeB)],
    outputs: [kernelOperand([m, n], dtype)],
    ints: [dtype === "bfloat16" ? 1 : 0],
  });
}

function describe({ m, k, n, transposeA, transposeB }: Shape): string {
  return `${m}x${k}${transposeA === true ? "ᵀ" : ""} · ${k}x${n}${transposeB === true ? "ᵀ" : ""}`;
}
