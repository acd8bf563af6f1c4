import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../src/base/index.ts";
import { type Band, type Line, plotPanels } from "../src/cli/plot.ts";
import { operandsOfPrecision, type Precision, precisions } from "../src/engine/index.ts";
import { plinth, shakespeareText } from "./command-line.ts";
import type { BenchRow } from "./peer.ts";
import type { SuiteOptions } from "./suite.ts";

const colours = { f32: "blue", bf16: "orange" } as const;

/** Noise is twice the standard deviation between seeds: what all but one in twenty runs stay within. */
const deviations = 2;

/** Held-out loss in nats per character after each interval. */
interface Run {
  readonly precision: Precision;
  readonly seed: number;
  readonly seconds: number;
  readonly losses: readonly (readonly [step: number, loss: number])[];
}

/**
 * The recipe of recipes/char-shakespeare.yaml (fewer steps) in float32 and in bfloat16 with three seeds each, by the
 * command line as a user runs it. Held-out loss over the whole held-out text at intervals; the difference between the
 * precisions against the noise from seed to seed. Writes docs/precision.svg and docs/precision.json.
 */
export async function benchPrecisionCurves({ quick }: SuiteOptions): Promise<readonly BenchRow[]> {
  if (!existsSync(shakespeareText)) {
    const note = `no text: ${shakespeareText} does not exist (PLINTH_ASSETS)`;
    return [{ name: "training curves, bfloat16", value: Number.NaN, unit: "nats", note }];
  }
  const seeds = quick ? [1, 2] : [1, 2, 3];
  const steps = quick ? 100 : 1500;
  const folder = await mkdtemp(join(tmpdir(), "plinth-precision-"));
  const runs: Run[] = [];
  try {
    const data = join(folder, "data");
    plinth("data", "build", "--from", shakespeareText, "--split", "tail", "--held-out", "0.1", "--out", data);
    for (const seed of seeds)
      for (const precision of precisions) {
        const out = join(folder, `${precision}-${seed}`);
        runs.push(await train({ precision, seed, steps, data, out }));
      }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  if (!quick) {
    const docs = join(packageRoot(), "docs");
    await writeFile(join(docs, "precision.svg"), plot(runs));
    await writeFile(join(docs, "precision.json"), `${JSON.stringify({ steps, runs }, undefined, 1)}\n`);
    process.stderr.write("  wrote docs/precision.svg and docs/precision.json\n");
  }
  return rowsOf(runs);
}

async function train(o: {
  precision: Precision;
  seed: number;
  steps: number;
  data: string;
  out: string;
}): Promise<Run> {
  const { precision, seed, steps, data, out } = o;
  const recipe = join(packageRoot(), "recipes", "char-shakespeare.yaml");
  const every = String(Math.max(1, steps / 10));
  const flags = ["--steps", String(steps), "--precision", precision, "--seed", String(seed)];
  const intervals = ["--held-out-every", every, "--checkpoint-every", String(steps)];
  const start = performance.now();
  plinth("pretrain", recipe, "--data", data, "--out", out, ...flags, ...intervals, "--json");
  const seconds = (performance.now() - start) / 1000;
  const losses: [number, number][] = [];
  for (const line of (await readFile(join(out, "metrics.jsonl"), "utf8")).split("\n")) {
    if (line === "") continue;
    const { step, heldOut } = JSON.parse(line) as { step: number; heldOut?: { loss: number } };
    if (heldOut !== undefined) losses.push([step, heldOut.loss]);
  }
  process.stderr.write(`  ${precision}, seed ${seed}: ${losses.at(-1)?.[1].toFixed(4)} in ${seconds.toFixed(0)} s\n`);
  return { precision, seed, seconds, losses };
}

interface Spread {
  readonly mean: number;
  readonly deviation: number;
}

/** Over the seeds of a precision, at each interval. */
function spreads(runs: readonly Run[], precision: Precision): (Spread & { readonly step: number })[] {
  const own = runs.filter((run) => run.precision === precision);
  return (own[0]?.losses ?? []).map(([step], i) => {
    const values = own.map((run) => run.losses[i]?.[1] as number);
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
    return { step, mean, deviation: Math.sqrt(squares / Math.max(1, values.length - 1)) };
  });
}

function pooled(a: Spread, b: Spread): number {
  return Math.sqrt((a.deviation ** 2 + b.deviation ** 2) / 2);
}

function rowsOf(runs: readonly Run[]): BenchRow[] {
  const [exact, narrow] = [spreads(runs, "f32"), spreads(runs, "bf16")];
  const [last, lastNarrow] = [exact.at(-1) as Spread, narrow.at(-1) as Spread];
  const noise = deviations * pooled(last, lastNarrow);
  const difference = Math.abs(lastNarrow.mean - last.mean);
  const within = exact.filter((e, i) => {
    const n = narrow[i] as Spread;
    return Math.abs(n.mean - e.mean) <= deviations * pooled(e, n);
  }).length;
  const text = ({ mean, deviation }: Spread): string => `${mean.toFixed(4)} ± ${deviation.toFixed(4)}`;
  const seeds = runs.length / precisions.length;
  return [
    {
      name: `held-out loss, bfloat16, mean of ${seeds} seeds`,
      value: lastNarrow.mean,
      unit: "nats",
      peer: "float32",
      peerValue: last.mean,
      ratio: last.mean / lastNarrow.mean,
      note: `${text(lastNarrow)} against ${text(last)}`,
    },
    {
      name: "  difference of the means",
      value: difference,
      unit: "nats",
      peer: `${deviations} deviations between seeds`,
      peerValue: noise,
      ratio: noise / difference,
      target: 1,
      note: `within noise at ${within} of ${exact.length} intervals`,
    },
  ];
}

function plot(runs: readonly Run[]): string {
  const exact = spreads(runs, "f32");
  const lines = (from: (step: number) => number): Line[] =>
    runs.map(({ precision, losses }) => ({
      name: operandsOfPrecision[precision],
      colour: colours[precision],
      points: losses.map(([step, loss]) => [step, loss - from(step)] as const),
    }));
  const meanAt = (step: number): number => exact.find((point) => point.step === step)?.mean ?? 0;
  const band: Band = {
    name: `float32: mean ± ${deviations} deviations between seeds`,
    colour: "blue",
    points: exact.map(({ step, deviation }) => [step, -deviations * deviation, deviations * deviation] as const),
  };
  const x = { label: "step" };
  return plotPanels(
    "Held-out loss of float32 and bfloat16 runs",
    [
      { title: "Held-out loss", x, y: { label: "nats per character" }, lines: lines(() => 0) },
      { title: "From the float32 mean", x, y: { label: "nats per character" }, lines: lines(meanAt), bands: [band] },
    ],
    { columns: 2, size: [460, 300] },
  );
}
