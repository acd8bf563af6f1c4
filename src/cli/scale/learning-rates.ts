import { leastSquares } from "../../evaluate/index.ts";
import type { RunPlan, Sweep } from "./plan.ts";
import { type RunResult, type SweepContext, trainRun } from "./run.ts";

/** Losses of one size and parametrisation at several learning rates. */
export interface LearningRateCurve {
  readonly parametrisation: RunPlan["parametrisation"];
  readonly width: number;
  readonly parameters: number;
  readonly runs: readonly RunResult[];
  /** Of the runs. */
  readonly bestLr: number;
  /** Where a parabola in ln(learning rate) through the best run and its neighbours is least; absent at the edge of the grid. */
  readonly optimum?: number;
}

/** How far the best learning rate moves from the smallest size to the largest. */
export interface Transfer {
  readonly parametrisation: RunPlan["parametrisation"];
  /** Best of the largest width over best of the smallest: 1 where it transfers. */
  readonly ratio: number;
  /** What the largest size loses by the smallest one's best, in nats. */
  readonly regret: number;
}

/** Short runs of the first `lrSizes` sizes at every learning rate: the same steps and batches for all. */
export async function searchLearningRates(context: SweepContext): Promise<LearningRateCurve[]> {
  const { sweep, io } = context;
  const { lrs, lrSteps, lrSizes, muP, lrCompare } = sweep;
  const parametrisations = muP ? (["muP", ...(lrCompare ? ["standard"] : [])] as const) : (["standard"] as const);
  const shapes = spread(sweep, lrSizes);
  const total = parametrisations.length * shapes.length * lrs.length;
  const curves: LearningRateCurve[] = [];
  let count = 0;
  for (const parametrisation of parametrisations as readonly RunPlan["parametrisation"][]) {
    for (const shape of shapes) {
      const runs: RunResult[] = [];
      for (const lr of lrs) {
        const name = `lr-${parametrisation === "muP" ? "mup" : "standard"}-w${shape.width}-${lr}`;
        const label = `learning rate ${++count} of ${total}, width ${shape.width}, ${parametrisation} ${lr}`;
        const plan: RunPlan = { name, shape, steps: lrSteps, parametrisation };
        runs.push(await trainRun(context, plan, lr, { mayDiverge: true, label }));
      }
      const curve = { parametrisation, width: shape.width, parameters: shape.parameters, runs, ...optimum(runs) };
      curves.push(curve);
      const found = curve.optimum === undefined ? "" : ` (parabola ${curve.optimum.toPrecision(3)})`;
      io.note(`${parametrisation}, width ${shape.width}: best learning rate ${curve.bestLr}${found}`);
    }
  }
  return curves;
}

/** The smallest, the largest and some between. */
function spread({ shapes }: Sweep, count: number) {
  const n = Math.min(count, shapes.length);
  const indices = Array.from({ length: n }, (_, i) => Math.round((i * (shapes.length - 1)) / Math.max(1, n - 1)));
  return [...new Set(indices)].map((i) => shapes[i] as (typeof shapes)[number]);
}

/** How well learning rates carry over, per parametrisation with two or more sizes. */
export function transfers(curves: readonly LearningRateCurve[]): Transfer[] {
  return [...new Set(curves.map((c) => c.parametrisation))].flatMap((parametrisation) => {
    const own = curves.filter((curve) => curve.parametrisation === parametrisation);
    const [first, last] = [own[0], own.at(-1)] as [LearningRateCurve, LearningRateCurve];
    if (own.length < 2) return [];
    const at = (curve: LearningRateCurve): number => curve.optimum ?? curve.bestLr;
    const loss = (lr: number): number => last.runs.find((run) => run.lr === lr)?.loss ?? Number.POSITIVE_INFINITY;
    return [{ parametrisation, ratio: at(last) / at(first), regret: loss(first.bestLr) - loss(last.bestLr) }];
  });
}

function optimum(runs: readonly RunResult[]): { bestLr: number; optimum?: number } {
  const losses = runs.map(({ loss }) => loss ?? Number.POSITIVE_INFINITY);
  const best = losses.indexOf(Math.min(...losses));
  const bestLr = (runs[best] as RunResult).lr;
  const near = runs.slice(Math.max(0, best - 1), best + 2);
  if (best < 1 || near.length < 3 || near.some(({ loss }) => loss === null)) return { bestLr };
  const center = Math.log(bestLr);
  const [, c1, c2] = leastSquares(
    near.map(({ lr }) => [1, Math.log(lr) - center, (Math.log(lr) - center) ** 2]),
    near.map(({ loss }) => loss as number),
  ) as [number, number, number];
  return { bestLr, optimum: Math.exp(center - c1 / (2 * c2)) };
}
