import { type LawCoefficients, lawLoss, optimalSize, parabolaLoss } from "../../evaluate/index.ts";
import { type Colour, type Line, type Panel, palette, plotPanels } from "../plot.ts";
import { short } from "./plan.ts";
import { count, type SweepReport } from "./report.ts";

const colour = (i: number): Colour => palette[i % palette.length] as Colour;

/** The law in pictures: equal compute, loss against compute, fitted against measured, learning rates across widths. */
export function lawPicture(report: SweepReport): string | undefined {
  const panels = [isoFlopPanel(report), computePanel(report), fitPanel(report), ...learningRatePanels(report)].filter(
    (panel): panel is Panel => panel !== undefined,
  );
  return panels.length === 0 ? undefined : plotPanels("Scaling law", panels, { columns: 2, size: [420, 300] });
}

/** One panel per task: accuracy against size, a line per difficulty. */
export function abilityPicture({ abilities }: SweepReport): string | undefined {
  const first = abilities[0]?.abilities ?? [];
  const kinds = [...new Map(first.map((a) => [`${a.task} ${a.metric}`, a])).values()];
  if (kinds.length === 0 || abilities.length < 2) return undefined;
  const panels = kinds.map(({ task, metric }): Panel => {
    const groups = first.filter((a) => a.task === task && a.metric === metric).map((a) => a.group);
    return {
      title: `${task}: ${metric}`,
      x: { label: "parameters", log: true, format: count },
      y: { label: metric },
      lines: groups.slice(0, 24).map((group, i) => ({
        name: `difficulty ${group.slice(group.lastIndexOf("/") + 1)}`,
        colour: colour(i),
        dots: true,
        points: abilities.flatMap(({ parameters, abilities: own }) => {
          const found = own.find((a) => a.task === task && a.metric === metric && a.group === group);
          return found === undefined ? [] : [[parameters, found.value] as const];
        }),
      })),
    };
  });
  return plotPanels("Abilities against scale", panels, { columns: 3, size: [300, 240] });
}

function isoFlopPanel({ runs, isoFlop }: SweepReport): Panel | undefined {
  const lines = isoFlop.parabolas.flatMap((parabola, i): Line[] => {
    const own = runs.filter((run) => run.budget === parabola.flops && run.loss !== null);
    const sizes = own.map(({ parameters }) => parameters);
    const curve = between(Math.min(...sizes), Math.max(...sizes)).map((n) => [n, parabolaLoss(parabola, n)] as const);
    return [
      { name: `${short(parabola.flops)} FLOPs`, colour: colour(i), points: curve },
      { name: "runs", colour: colour(i), dots: "only", points: own.map((run) => [run.parameters, run.loss as number]) },
    ];
  });
  if (lines.length === 0) return undefined;
  const best = isoFlop.parabolas.flatMap(({ best }) =>
    best === undefined ? [] : [[best.parameters, best.loss] as const],
  );
  return {
    title: "Equal compute",
    x: { label: "parameters N", log: true, format: count },
    y: { label: "held-out loss (nats per token)" },
    lines: best.length < 2 ? lines : [...lines, { name: "best size", colour: "grey", dashed: true, points: best }],
  };
}

function computePanel({ runs, law, next, sweep }: SweepReport): Panel | undefined {
  const done = runs.filter(({ loss }) => loss !== null);
  if (done.length === 0) return undefined;
  const lines = sweep.shapes.flatMap(({ parameters }, i): Line[] => {
    const own = done.filter((run) => run.parameters === parameters).sort((a, b) => a.flops - b.flops);
    if (own.length === 0) return [];
    const points = own.map((run) => [run.flops, run.loss as number] as const);
    return [{ name: `${count(parameters)} parameters`, colour: colour(i), dots: true, points }];
  });
  const flops = [...done.map((run) => run.flops), ...(next === undefined ? [] : [next.flops])];
  if (law !== undefined) {
    const frontier = between(Math.min(...flops), Math.max(...flops)).map(
      (c) => [c, optimalSize(law, c, costOf(sweep)).loss] as const,
    );
    lines.push({ name: "the law's best for its compute", colour: "grey", dashed: true, points: frontier });
  }
  if (next?.measured !== undefined) {
    lines.push({
      name: `next size, ${count(next.parameters)}, measured`,
      colour: "red",
      dots: "only",
      points: [[next.flops, next.measured]],
    });
  }
  return {
    title: "Loss against compute",
    x: { label: "training FLOPs", log: true, format: (v) => v.toExponential(0) },
    y: { label: "held-out loss (nats per token)" },
    lines,
  };
}

/** FLOPs per token of a size between those of the sweep, by the power law through the smallest and the largest. */
function costOf({ shapes }: SweepReport["sweep"]): (parameters: number) => number {
  const [first, last] = [shapes[0], shapes.at(-1)];
  if (first === undefined || last === undefined || first === last) return (n) => 6 * n;
  const power = Math.log(last.flopsPerToken / first.flopsPerToken) / Math.log(last.parameters / first.parameters);
  return (n) => first.flopsPerToken * (n / first.parameters) ** power;
}

function fitPanel({ runs, law, next }: SweepReport): Panel | undefined {
  if (law === undefined) return undefined;
  const points = runs.flatMap((run) =>
    run.loss === null ? [] : [[lawLoss(law as LawCoefficients, run), run.loss] as const],
  );
  const ends = [...points.flat(), ...(next?.measured === undefined ? [] : [next.measured])];
  const diagonal = [Math.min(...ends), Math.max(...ends)].map((v) => [v, v] as const);
  const ahead =
    next?.measured === undefined
      ? []
      : ([
          {
            name: "next size, predicted ahead",
            colour: "red",
            dots: "only",
            points: [[next.predicted.loss, next.measured]],
          },
        ] as const);
  return {
    title: "Fitted and measured",
    x: { label: "loss of the law" },
    y: { label: "held-out loss measured" },
    lines: [
      { name: "equal", colour: "grey", dashed: true, points: diagonal },
      { name: "runs of the fit", colour: "blue", dots: "only", points },
      ...ahead,
    ],
  };
}

function learningRatePanels({ learningRates }: SweepReport): Panel[] {
  const kinds = [...new Set(learningRates.curves.map((curve) => curve.parametrisation))];
  return kinds.map((parametrisation) => ({
    title: `Learning rate across widths, ${parametrisation}`,
    x: { label: "learning rate (of the smallest width)", log: true },
    y: { label: "held-out loss" },
    lines: learningRates.curves
      .filter((curve) => curve.parametrisation === parametrisation)
      .map(({ width, runs }, i) => ({
        name: `width ${width}`,
        colour: colour(i),
        dots: true,
        points: runs.flatMap(({ lr, loss }) => (loss === null ? [] : [[lr, loss] as const])),
      })),
  }));
}

/** Forty numbers from low to high at equal ratios. */
function between(low: number, high: number): number[] {
  return Array.from({ length: 40 }, (_, i) => low * (high / low) ** (i / 39));
}
