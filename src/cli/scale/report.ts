import type { IsoFlopFit, Prediction, ScalingLaw } from "../../evaluate/index.ts";
import type { SizeAbilities } from "./abilities.ts";
import type { LearningRateCurve, Transfer } from "./learning-rates.ts";
import type { Sweep } from "./plan.ts";
import type { RunResult } from "./run.ts";

/** `report.json`. */
export interface SweepReport {
  readonly sweep: Sweep;
  readonly lr: number;
  readonly learningRates: { readonly curves: readonly LearningRateCurve[]; readonly transfers: readonly Transfer[] };
  readonly runs: readonly RunResult[];
  /** Absent with too few runs. */
  readonly law?: Omit<ScalingLaw, "samples"> | undefined;
  readonly isoFlop: IsoFlopFit;
  /** Written before the next size was trained, measured afterwards. */
  readonly next?: NextSize | undefined;
  readonly abilities: readonly SizeAbilities[];
  readonly seconds: number;
  readonly notes: readonly string[];
}

export interface NextSize {
  readonly parameters: number;
  readonly tokens: number;
  readonly flops: number;
  readonly predicted: Prediction;
  /** Absent while it has not been trained. */
  readonly measured?: number;
  /** predicted / measured - 1 */
  readonly error?: number;
}

/** `report.md`: what the sweep found, for people. */
export function reportMarkdown(report: SweepReport): string {
  const { sweep, runs, law, isoFlop, next, lr, learningRates, abilities, notes } = report;
  const sections = [
    `# Scaling of ${sweep.arch}`,
    `${runs.length} runs of ${sweep.shapes.length} sizes (${sweep.shapes.map((s) => count(s.parameters)).join(", ")} parameters, embeddings not counted; ` +
      `${sweep.layers} layers, heads of ${sweep.headWidth}), context ${sweep.context}, learning rate ${lr}${sweep.muP ? " by muP" : ""}, ${report.seconds.toFixed(0)} s of training.`,
  ];
  if (law !== undefined) {
    const row = (name: string, value: number, [low, high]: readonly [number, number]): string[] => [
      name,
      figure(value),
      `${figure(low)} to ${figure(high)}`,
    ];
    sections.push(
      "## L(N, D) = E + A / N^alpha + B / D^beta",
      "Huber fit in log space (Hoffmann et al. 2022, approach 3); intervals are 95 % of a bootstrap over the runs.",
      table(
        ["coefficient", "value", "95 % interval"],
        [
          ...(["E", "A", "B", "alpha", "beta"] as const).map((name) => row(name, law[name], law.intervals[name])),
          row("a in N ~ C^a", law.a, law.aInterval),
        ],
      ),
      `Points lie ${(100 * meanSize(law.residuals)).toFixed(2)} % from the fit on average, ${(100 * Math.max(...law.residuals.map(Math.abs))).toFixed(2)} % at most.`,
    );
  }
  if (isoFlop.parabolas.length > 0) {
    sections.push(
      "## Equal compute",
      table(
        ["FLOPs", "best N", "tokens D", "loss"],
        isoFlop.parabolas.map(({ flops, best }) =>
          best === undefined
            ? [figure(flops), "(outside the sizes)", "", ""]
            : [figure(flops), count(best.parameters), count(best.tokens), best.loss.toFixed(4)],
        ),
      ),
    );
    const { exponents: found } = isoFlop;
    if (found !== undefined) {
      const [low, high] = found.aInterval;
      sections.push(
        `N ~ C^${found.a.toFixed(3)} (95 % ${low.toFixed(3)} to ${high.toFixed(3)}), D ~ C^${found.b.toFixed(3)}.`,
      );
    }
  }
  if (next !== undefined) {
    const [low, high] = next.predicted.interval;
    const measured =
      next.measured === undefined
        ? "It has not been trained yet."
        : `Measured: **${next.measured.toFixed(4)}**; the prediction is off by ${(100 * (next.error ?? 0)).toFixed(2)} %.`;
    sections.push(
      "## The next size",
      `${count(next.parameters)} parameters on ${count(next.tokens)} tokens (${figure(next.flops)} FLOPs), ${(next.parameters / Math.max(...runs.map((r) => r.parameters))).toFixed(1)} times the largest of the fit. ` +
        `Predicted before training: **${next.predicted.loss.toFixed(4)}** (95 % ${low.toFixed(4)} to ${high.toFixed(4)}). ${measured}`,
    );
  }
  if (learningRates.curves.length > 0) {
    sections.push(
      "## Learning rates across widths",
      table(
        ["parametrisation", "width", "best learning rate", "parabola", "held-out loss"],
        learningRates.curves.map(({ parametrisation, width, bestLr, optimum, runs }) => [
          parametrisation,
          `${width}`,
          `${bestLr}`,
          optimum === undefined ? "(edge)" : optimum.toPrecision(3),
          Math.min(...runs.map((run) => run.loss ?? Number.POSITIVE_INFINITY)).toFixed(4),
        ]),
      ),
      ...learningRates.transfers.map(
        ({ parametrisation, ratio, regret }) =>
          `${parametrisation}: from the smallest width to the largest the best learning rate changes by a factor of ${ratio.toFixed(2)}; the smallest one's costs the largest ${regret.toFixed(4)} nats.`,
      ),
    );
  }
  if (abilities.length > 0) sections.push("## Abilities", ...abilityTables(abilities));
  sections.push(
    "## Runs",
    table(
      ["run", "N", "D", "FLOPs", "held-out loss", "fit", "seconds"],
      runs.map((run, i) => [
        run.name,
        count(run.parameters),
        count(run.tokens),
        figure(run.flops),
        run.loss?.toFixed(4) ?? "diverged",
        law === undefined || run.loss === null ? "" : (run.loss / Math.exp(law.residuals[i] ?? 0)).toFixed(4),
        run.seconds.toFixed(0),
      ]),
    ),
  );
  if (notes.length > 0) sections.push("## Notes", notes.map((note) => `- ${note}`).join("\n"));
  return `${sections.join("\n\n")}\n`;
}

function abilityTables(abilities: readonly SizeAbilities[]): string[] {
  const rows = abilities[0]?.abilities ?? [];
  return [
    table(
      ["group", "metric", ...abilities.map(({ parameters }) => count(parameters))],
      rows.map(({ group, metric }, i) => [
        group,
        metric,
        ...abilities.map(({ abilities: own }) => own[i]?.value.toFixed(2) ?? ""),
      ]),
    ),
  ];
}

function meanSize(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
}

/** 1234567 as "1.23M". */
export function count(n: number): string {
  for (const [size, unit] of [
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const)
    if (n >= size) return `${Number((n / size).toPrecision(3))}${unit}`;
  return n.toFixed(0);
}

function figure(value: number): string {
  return Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(4);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), `|${head.map(() => "---|").join("")}`, ...rows.map(line)].join("\n");
}
