import { HostRandom } from "../../engine/index.ts";
import { type Interval, interval } from "./interval.ts";
import type { ScalingPoint } from "./law.ts";

/** Models of several sizes trained for the same budget. */
export interface IsoFlopCurve {
  readonly flops: number;
  readonly points: readonly ScalingPoint[];
}

/** loss = c0 + c1 x + c2 x^2 with x = ln N - center. */
export interface Parabola {
  readonly flops: number;
  readonly coefficients: readonly [number, number, number];
  readonly center: number;
  /** The least loss of the budget; absent when the parabola opens downwards or its minimum is far outside the points. */
  readonly best?: { readonly parameters: number; readonly tokens: number; readonly loss: number };
}

export interface IsoFlopFit {
  readonly parabolas: readonly Parabola[];
  /** N ~ C^a and D ~ C^b through the best sizes; absent with fewer than two of them. */
  readonly exponents?: { readonly a: number; readonly b: number; readonly aInterval: Interval };
}

/**
 * IsoFLOP profiles (Hoffmann et al. 2022, section 3.2): a parabola in ln N for every budget, and a power law through
 * their minima. The interval of its exponent is from a bootstrap of the parabolas' residuals. Budgets with fewer than
 * three sizes have no parabola.
 */
export function fitIsoFlops(
  curves: readonly IsoFlopCurve[],
  { bootstrap = 200, seed = 0 }: { readonly bootstrap?: number | undefined; readonly seed?: number | undefined } = {},
): IsoFlopFit {
  const usable = curves.filter(({ points }) => new Set(points.map((p) => p.parameters)).size >= 3);
  const parabolas = usable.map(parabola);
  const exponents = exponentsOf(parabolas);
  if (exponents === undefined) return { parabolas };
  const random = new HostRandom(seed);
  const samples: number[] = [];
  for (let i = 0; i < bootstrap; i++) {
    const redrawn = usable.map((curve, c) => {
      const fitted = curve.points.map((point) => parabolaLoss(parabolas[c] as Parabola, point.parameters));
      // Three of n degrees of freedom are the parabola's own: residuals are that much too small.
      const n = curve.points.length;
      const widen = n > 3 ? Math.sqrt(n / (n - 3)) : 0;
      const residuals = curve.points.map((point, p) => widen * (point.loss - (fitted[p] as number)));
      return {
        ...curve,
        points: curve.points.map((point, p) => ({
          ...point,
          loss: (fitted[p] as number) + (residuals[random.int(n)] as number),
        })),
      };
    });
    const a = exponentsOf(redrawn.map(parabola))?.a;
    if (a !== undefined) samples.push(a);
  }
  return { parabolas, exponents: { ...exponents, aInterval: interval(samples) } };
}

/** The parabola's loss at a size. */
export function parabolaLoss({ coefficients: [c0, c1, c2], center }: Parabola, parameters: number): number {
  const x = Math.log(parameters) - center;
  return c0 + c1 * x + c2 * x * x;
}

function parabola({ flops, points }: IsoFlopCurve): Parabola {
  const logs = points.map(({ parameters }) => Math.log(parameters));
  const center = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const coefficients = leastSquares(
    logs.map((log) => [1, log - center, (log - center) ** 2]),
    points.map(({ loss }) => loss),
  ) as [number, number, number];
  const [, c1, c2] = coefficients;
  const at = -c1 / (2 * c2);
  const [low, high] = [Math.min(...logs) - center, Math.max(...logs) - center];
  const plain = { flops, coefficients, center };
  if (!(c2 > 0) || at < low - 0.5 * (high - low) || at > high + 0.5 * (high - low)) return plain;
  const parameters = Math.exp(at + center);
  // At a fixed budget ln D is nearly linear in ln N.
  const [k0, k1] = leastSquares(
    logs.map((log) => [1, log - center]),
    points.map(({ tokens }) => Math.log(tokens)),
  ) as [number, number];
  return { ...plain, best: { parameters, tokens: Math.exp(k0 + k1 * at), loss: parabolaLoss(plain, parameters) } };
}

function exponentsOf(parabolas: readonly Parabola[]): { a: number; b: number } | undefined {
  const found = parabolas.flatMap(({ flops, best }) => (best === undefined ? [] : [{ flops, ...best }]));
  if (new Set(found.map(({ flops }) => flops)).size < 2) return undefined;
  const rows = found.map(({ flops }) => [1, Math.log(flops)]);
  const slope = (pick: (each: { parameters: number; tokens: number }) => number): number =>
    leastSquares(
      rows,
      found.map((each) => Math.log(pick(each))),
    )[1] as number;
  return { a: slope(({ parameters }) => parameters), b: slope(({ tokens }) => tokens) };
}

/** Coefficients of the least squares, by Gaussian elimination of the normal equations: for two or three centred columns. */
export function leastSquares(rows: readonly (readonly number[])[], values: readonly number[]): number[] {
  const n = rows[0]?.length ?? 0;
  const m = Array.from({ length: n }, (_, i) =>
    Array.from({ length: n + 1 }, (_, j) =>
      rows.reduce((sum, row, k) => sum + (row[i] as number) * ((j < n ? row[j] : values[k]) as number), 0),
    ),
  );
  for (let i = 0; i < n; i++) {
    const pivot = m
      .slice(i)
      .reduce((best, row) => (Math.abs(row[i] as number) > Math.abs(best[i] as number) ? row : best));
    m.splice(m.indexOf(pivot), 1);
    m.splice(i, 0, pivot);
    for (const row of m) {
      if (row === pivot) continue;
      const factor = (row[i] as number) / (pivot[i] as number);
      for (let j = i; j <= n; j++) row[j] = (row[j] as number) - factor * (pivot[j] as number);
    }
  }
  return m.map((row, i) => (row[n] as number) / (row[i] as number));
}
