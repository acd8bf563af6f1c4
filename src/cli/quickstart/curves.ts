import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Series } from "./chart.ts";

type MetricLine = {
  readonly step: number;
  readonly loss?: number;
  readonly heldOut?: { readonly bitsPerByte: number };
};

async function metrics(folder: string): Promise<MetricLine[]> {
  const text = await readFile(join(folder, "metrics.jsonl"), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as MetricLine);
}

/** Mean training loss of a run in bits per token, at about a hundred places. */
export async function curve(name: string, folder: string, perBit = 1): Promise<Series> {
  const steps = (await metrics(folder)).filter((line) => line.loss !== undefined);
  const size = Math.max(1, Math.floor(steps.length / 100));
  const points: [number, number][] = [];
  for (let i = 0; i + size <= steps.length; i += size) {
    const group = steps.slice(i, i + size);
    const mean = group.reduce((sum, line) => sum + (line.loss as number), 0) / group.length;
    points.push([(group.at(-1) as MetricLine).step, mean / Math.LN2 / perBit]);
  }
  return { name, points };
}

/** Training and held-out loss of the base model in bits per byte. */
export async function pretrainingCurves(folder: string, bytesPerToken: number): Promise<Series[]> {
  const run = join(folder, "model");
  const heldOut = (await metrics(run)).flatMap(({ step, heldOut }) =>
    heldOut === undefined ? [] : [[step, heldOut.bitsPerByte] as const],
  );
  return [await curve("training", run, bytesPerToken), { name: "held out", points: heldOut, dots: true }];
}
