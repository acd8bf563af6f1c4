import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { packageRoot } from "../src/base/index.ts";
import { type Panel, plotPanels } from "../src/cli/plot.ts";
import {
  attention,
  jit,
  mul,
  operandsOfPrecision,
  type Precision,
  precisions,
  sum,
  type Tensor,
  type TensorType,
  valueAndGrad,
} from "../src/engine/index.ts";
import { ownStep, type StepShape } from "./own-step.ts";
import { type BenchRow, median } from "./peer.ts";
import type { SuiteOptions } from "./suite.ts";

const base = { arch: "gpt2", layers: 4, width: 384, heads: 6, vocab: 4096, context: 256, batch: 4 } as const;

/** What is varied, all else being {@link base}. */
interface Sweep {
  readonly name: string;
  readonly values: readonly number[];
  readonly shape: (value: number) => StepShape;
}

const sweeps: readonly Sweep[] = [
  { name: "width", values: [128, 256, 512, 1024], shape: (width) => ({ ...base, width, heads: width / 64 }) },
  { name: "layers", values: [1, 2, 4, 8, 16], shape: (layers) => ({ ...base, layers }) },
  {
    name: "context",
    values: [256, 512, 1024, 2048, 4096, 8192],
    shape: (context) => ({ ...base, context, batch: 1 }),
  },
  { name: "batch", values: [1, 2, 4, 8, 16, 32], shape: (batch) => ({ ...base, batch }) },
];

const precisionColour = { f32: "blue", bf16: "orange" } as const;
const idealName = "ideal: as the arithmetic, from the best rate";

interface Point {
  readonly value: number;
  readonly seconds: number;
  /** Of products and attention. */
  readonly flops: number;
  readonly gflops: number;
  readonly peakBytes: number;
}

interface Curve {
  readonly sweep: string;
  readonly precision: Precision;
  readonly points: readonly Point[];
}

/**
 * How the time of a training step grows with width, layers, context and batch, against its arithmetic, and the planned memory
 * of attention with context. Writes docs/scaling.svg and docs/scaling.json.
 */
export async function benchScaling({ quick }: SuiteOptions): Promise<readonly BenchRow[]> {
  const curves: Curve[] = [];
  for (const sweep of sweeps) {
    for (const precision of precisions) {
      const values = quick ? sweep.values.slice(0, 3) : sweep.values;
      const points: Point[] = [];
      for (const value of values) points.push(await measure(sweep.shape(value), value, precision, quick ? 1 : 3));
      curves.push({ sweep: sweep.name, precision, points });
      process.stderr.write(
        `  ${sweep.name}, ${precision}: ${points.map((p) => `${p.seconds.toFixed(3)} s`).join(", ")}\n`,
      );
    }
  }
  const memory = attentionMemory();
  if (!quick) {
    const folder = join(packageRoot(), "docs");
    await writeFile(join(folder, "scaling.svg"), plot(curves, memory));
    const document = { base, curves, attentionMemory: memory };
    await writeFile(join(folder, "scaling.json"), `${JSON.stringify(document, rounded, 1)}\n`);
    process.stderr.write("  wrote docs/scaling.svg and docs/scaling.json\n");
  }
  return [...curves.map(growthRow), memoryRow(memory)];
}

async function measure(shape: StepShape, value: number, precision: Precision, rounds: number): Promise<Point> {
  const step = await ownStep(shape, precision);
  await step.run();
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) times.push(await step.run());
  const seconds = median(times);
  return { value, seconds, flops: step.flops, gflops: step.flops / seconds / 1e9, peakBytes: step.peakBytes };
}

/** From the first to the last value: how many times longer it takes, against how many times more there is to multiply. */
function growthRow({ sweep, precision, points }: Curve): BenchRow {
  const [first, last] = [points[0] as Point, points.at(-1) as Point];
  const [time, work] = [last.seconds / first.seconds, last.flops / first.flops];
  return {
    name: `step time, ${sweep} ${first.value} to ${last.value}, ${operandsOfPrecision[precision]}`,
    value: time,
    unit: "times longer",
    peer: "arithmetic",
    peerValue: work,
    ratio: work / time,
    note: `${first.gflops.toFixed(0)} to ${last.gflops.toFixed(0)} GFLOP/s`,
  };
}

interface MemoryPoint {
  readonly context: number;
  /** Everything that the program for attention and its gradients holds. */
  readonly peakBytes: number;
  /** What the scores of all heads would take, float32. */
  readonly scoreBytes: number;
}

const attentionHeads = 6;

/** Planned, not run: attention forward and backward of one row by itself, heads as in {@link base}. */
function attentionMemory(): MemoryPoint[] {
  const program = jit(
    (q: Tensor, k: Tensor, v: Tensor, dy: Tensor) =>
      valueAndGrad((p: { q: Tensor; k: Tensor; v: Tensor }) =>
        sum(mul(attention(p.q, p.k, p.v, { causal: true }), dy)),
      )({
        q,
        k,
        v,
      }),
    { name: "attention" },
  );
  return [512, 1024, 2048, 4096, 8192, 16_384, 32_768].map((context) => {
    const type: TensorType = { shape: [1, context, attentionHeads, 64], dtype: "float32" };
    const { peakBytes } = program.compile(type, type, type, type).stats;
    return { context, peakBytes, scoreBytes: attentionHeads * context * context * 4 };
  });
}

function memoryRow(points: readonly MemoryPoint[]): BenchRow {
  const [first, last] = [points[0] as MemoryPoint, points.at(-1) as MemoryPoint];
  const [grown, longer] = [last.peakBytes / first.peakBytes, last.context / first.context];
  return {
    name: `planned memory of attention, context ${first.context} to ${last.context}`,
    value: grown,
    unit: "times more",
    peer: "context",
    peerValue: longer,
    ratio: longer / grown,
    note: `${(last.peakBytes / 2 ** 20).toFixed(0)} MiB; scores would be ${(last.scoreBytes / 2 ** 20).toFixed(0)} MiB`,
  };
}

function plot(curves: readonly Curve[], memory: readonly MemoryPoint[]): string {
  const labels = { width: "width", layers: "layers", context: "context, tokens (batch 1)", batch: "batch, rows" };
  const panels = sweeps.map(({ name, values }): Panel => {
    const own = curves.filter((curve) => curve.sweep === name);
    return {
      title: `Step time against ${name}`,
      x: { label: labels[name as keyof typeof labels], log: true, ticks: values },
      y: { label: "seconds", log: true },
      lines: own.flatMap(({ precision, points }) => {
        const colour = precisionColour[precision];
        const rate = Math.max(...points.map(({ gflops }) => gflops));
        return [
          {
            name: idealName,
            colour: "grey" as const,
            dashed: true,
            points: points.map((p) => [p.value, p.flops / rate / 1e9] as const),
          },
          {
            name: operandsOfPrecision[precision],
            colour,
            dots: true,
            points: points.map((p) => [p.value, p.seconds] as const),
          },
        ];
      }),
    };
  });
  const mebibytes = (bytes: number): number => bytes / 2 ** 20;
  const first = memory[0] as MemoryPoint;
  panels.push({
    title: "Memory of attention and its gradients",
    x: { label: "context, tokens", log: true, ticks: memory.map(({ context }) => context) },
    y: { label: "MiB", log: true },
    lines: [
      {
        name: idealName,
        colour: "grey",
        dashed: true,
        points: memory.map((p) => [p.context, (mebibytes(first.peakBytes) * p.context) / first.context] as const),
      },
      {
        name: "the scores, were they stored",
        colour: "orange",
        dashed: true,
        points: memory.map((p) => [p.context, mebibytes(p.scoreBytes)] as const),
      },
      {
        name: "planned",
        colour: "green",
        dots: true,
        points: memory.map((p) => [p.context, mebibytes(p.peakBytes)] as const),
      },
    ],
  });
  return plotPanels("Time and memory against the size of the model and the batch", panels, { columns: 3 });
}

/** Four digits are more than such figures have. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
}
