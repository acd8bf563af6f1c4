import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { hostInfo, measureLimits, operandsOfPrecision, type Precision } from "../src/engine/index.ts";
import { ownStep, type StepShape } from "./own-step.ts";
import { type BenchRow, median, missingModule, Peer, settle } from "./peer.ts";
import type { SuiteOptions } from "./suite.ts";

/** Training steps that race. */
export const stepShapes = {
  "gpt2-124m": { arch: "gpt2", layers: 12, width: 768, heads: 12, vocab: 50257, context: 512, batch: 2 },
  "gpt-12m": { arch: "gpt2", layers: 6, width: 384, heads: 6, vocab: 4096, context: 256, batch: 8 },
  "bert-110m": { arch: "bert", layers: 12, width: 768, heads: 12, vocab: 30522, context: 512, batch: 2 },
} as const satisfies Record<string, StepShape>;

/** Shares of PyTorch's time and memory, and of the measured limit, that issue 3 asks for. */
const targets = { speed: { bf16: 1.5, f32: 1.8 }, memory: 1 / 0.7, limit: { bf16: 0.55, f32: undefined } } as const;

interface PeerBuild {
  readonly name: string;
  readonly peer: Peer;
  readonly version: string;
  readonly seconds: number[];
}

/**
 * One AdamW step against PyTorch's best of eager and compiled, the sides taking turns; the products' share of the
 * machine's limit; and peak resident memory of a process that does nothing but the step, each side its own.
 */
export async function raceStep(shape: StepShape, { quick }: SuiteOptions): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const precision of ["bf16", "f32"] as const) {
    process.stderr.write(`  ${shape.arch} ${shape.layers} x ${shape.width}, ${precision}\n`);
    rows.push(...(await raceOne(shape, precision, quick ? 2 : shape.width > 512 ? 5 : 11)));
  }
  return rows;
}

async function raceOne(shape: StepShape, precision: Precision, rounds: number): Promise<readonly BenchRow[]> {
  const own = await ownStep(shape, precision);
  await own.run();
  const { peers, problems } = await openPeers(shape, precision);
  const ours: number[] = [];
  for (let i = 0; i < rounds; i++) {
    await settle();
    ours.push(await own.run());
    for (const { peer, seconds } of peers) {
      await settle();
      seconds.push((await peer.ask<{ seconds: number }>({ steps: 1 })).seconds);
    }
  }
  const peakOfPeers: number[] = [];
  for (const { peer } of peers) {
    peakOfPeers.push((await peer.ask<{ peakBytes: number }>({ steps: 1 })).peakBytes);
    peer.close();
  }

  const tokens = shape.batch * shape.context;
  const title = `${shape.arch === "bert" ? "BERT" : "GPT"} step ${(own.parameters / 1e6).toFixed(1)}M, ${shape.batch}x${shape.context} tokens, ${operandsOfPrecision[precision]}`;
  const limits = measureLimits({ seconds: 1 });
  const limit = precision === "bf16" ? limits.bfloat16Gflops : limits.gflops;
  const gflops = own.flops / median(ours) / 1e9;
  const best = [...peers].sort((a, b) => median(a.seconds) - median(b.seconds))[0];
  const others = peers
    .filter((peer) => peer !== best)
    .map(({ name, seconds }) => `${name} ${(tokens / median(seconds)).toFixed(0)}`);
  const notes = [...others, ...problems];
  const note = notes.length === 0 ? {} : { note: notes.join("; ") };
  const target = targets.limit[precision];
  return [
    {
      name: title,
      value: tokens / median(ours),
      unit: "tokens/s",
      ...(best === undefined
        ? {}
        : {
            peer: `PyTorch ${best.version} ${best.name}`,
            peerValue: tokens / median(best.seconds),
            ratio: median(best.seconds) / median(ours),
            target: targets.speed[precision],
          }),
      ...note,
    },
    {
      name: "  its products and attention",
      value: gflops,
      unit: "GFLOP/s",
      peer: `measured ${operandsOfPrecision[precision]} limit`,
      peerValue: limit,
      ratio: gflops / limit,
      ...(target === undefined ? {} : { target }),
    },
    memoryRow(shape, precision, peakOfPeers),
  ];
}

/** Eager and compiled, each in a process of its own; what cannot be had is said. */
async function openPeers(shape: StepShape, precision: Precision) {
  const absent = [missingModule("torch"), shape.arch === "bert" ? missingModule("transformers") : undefined].find(
    (problem) => problem !== undefined,
  );
  if (absent !== undefined) return { peers: [], problems: [`no peer: ${absent}`] };
  const peers: PeerBuild[] = [];
  const problems: string[] = [];
  for (const name of ["eager", "compiled"]) {
    const peer = new Peer("torch_step.py");
    const dtype = operandsOfPrecision[precision];
    const request = { ...shape, dtype, compile: name === "compiled", threads: hostInfo().threads };
    const answer = await peer.open(request);
    if (answer.version === undefined) {
      problems.push(`${name}: ${answer.error}`);
      peer.close();
    } else {
      peers.push({ name, peer, version: answer.version.split("+")[0] as string, seconds: [] });
      await peer.ask({ steps: 1 });
    }
  }
  return { peers, problems };
}

/** Ours from a fresh process, theirs as they reported: the leaner of the two, since compiling may cost memory. */
function memoryRow(shape: StepShape, precision: Precision, peakOfPeers: readonly number[]): BenchRow {
  const file = join(import.meta.dirname, `step-memory.${import.meta.filename.endsWith(".ts") ? "ts" : "js"}`);
  const child = spawnSync(process.execPath, [file, JSON.stringify({ shape, precision })], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (child.status !== 0) throw new Error(`${file} ended with ${child.status ?? child.signal}`);
  const { peakBytes, plannedBytes } = JSON.parse(child.stdout) as { peakBytes: number; plannedBytes: number };
  const theirs = Math.min(...peakOfPeers);
  const mebibytes = (bytes: number): number => bytes / 2 ** 20;
  return {
    name: "  peak resident memory of its process",
    value: mebibytes(peakBytes),
    unit: "MiB",
    ...(peakOfPeers.length === 0
      ? {}
      : {
          peer: "PyTorch process",
          peerValue: mebibytes(theirs),
          ratio: theirs / peakBytes,
          target: targets.memory,
        }),
    note: `planned ${mebibytes(plannedBytes).toFixed(0)} MiB`,
  };
}
