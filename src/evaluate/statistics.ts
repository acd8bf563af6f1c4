import { PlinthError } from "../base/index.ts";

/** What one item adds to a metric: `amount / weight`, summed over items, is its value (weight 1: a plain mean). */
export interface ItemScore {
  readonly id: string;
  readonly cluster?: string | undefined;
  /** What results can be broken down by, such as a phenomenon or a difficulty; default the id up to its last slash. */
  readonly group?: string | undefined;
  readonly amount: number;
  readonly weight: number;
}

export interface Estimate {
  readonly value: number;
  /** Absent with fewer than two independent units. */
  readonly standardError: number | undefined;
  /** Independent units: clusters, or items where there are none. */
  readonly units: number;
}

/**
 * Items by their group, which is what their ids share up to the last slash where they name none (`copy/4/17` is of
 * `copy/4`), in the order of their first items; those with neither are of the group `otherwise`.
 */
export function groupItems(
  scores: readonly ItemScore[],
  otherwise: string,
): { readonly group: string; readonly items: readonly ItemScore[] }[] {
  const groups = new Map<string, ItemScore[]>();
  for (const score of scores) {
    const group = score.group ?? (score.id.slice(0, Math.max(0, score.id.lastIndexOf("/"))) || otherwise);
    const items = groups.get(group) ?? [];
    items.push(score);
    groups.set(group, items);
  }
  return [...groups].map(([group, items]) => ({ group, items }));
}

interface Unit {
  amount: number;
  weight: number;
}

/**
 * Ratio of sums with its linearised standard error over independent units (Cochran, Sampling Techniques, 3rd ed. 1977,
 * eq. 6.13): r = sum(y) / sum(x), var = n / (n-1) * sum((y - r x)^2) / sum(x)^2. With weights of 1 it is the standard
 * error of a mean, s / sqrt(n). Items of one cluster count as one unit (Miller 2024, "Adding Error Bars to Evals",
 * section 2.2). Sums are float64, in the order of the items.
 */
export function ratioEstimate(scores: readonly ItemScore[]): Estimate {
  const units = [...byCluster(scores).values()];
  const { ratio, weight } = totals(units);
  return {
    value: ratio,
    standardError: spread(units.map((unit) => (unit.amount - ratio * unit.weight) / weight)),
    units: units.length,
  };
}

/**
 * Difference of two ratios (first minus second) measured on the same items, with the standard error of the paired
 * difference: what both find hard cancels. Throws PlinthError when the items differ.
 */
export function pairedDifference(first: readonly ItemScore[], second: readonly ItemScore[]): Estimate {
  const ids = new Set(first.map(({ id }) => id));
  const other = second.find(({ id }) => !ids.has(id));
  if (other !== undefined || first.length !== second.length) {
    throw new PlinthError(
      `cannot compare: the two results have different items${other === undefined ? "" : ` ("${other.id}" is in one only)`}`,
      "evaluate both models on the same tasks with the same limit, shots and seed",
    );
  }
  const a = byCluster(first);
  const b = byCluster(second);
  const totalA = totals([...a.values()]);
  const totalB = totals([...b.values()]);
  const residuals = [...a].map(([key, unit]) => {
    const pair = b.get(key) ?? { amount: 0, weight: 0 };
    return (
      (unit.amount - totalA.ratio * unit.weight) / totalA.weight -
      (pair.amount - totalB.ratio * pair.weight) / totalB.weight
    );
  });
  return { value: totalA.ratio - totalB.ratio, standardError: spread(residuals), units: residuals.length };
}

function byCluster(scores: readonly ItemScore[]): Map<string, Unit> {
  const units = new Map<string, Unit>();
  for (const { id, cluster, amount, weight } of scores) {
    const key = cluster === undefined ? `item ${id}` : `cluster ${cluster}`;
    const unit = units.get(key) ?? { amount: 0, weight: 0 };
    unit.amount += amount;
    unit.weight += weight;
    units.set(key, unit);
  }
  return units;
}

function totals(units: readonly Unit[]): { ratio: number; weight: number } {
  let amount = 0;
  let weight = 0;
  for (const unit of units) {
    amount += unit.amount;
    weight += unit.weight;
  }
  return { ratio: amount / weight, weight };
}

/** Standard error of a sum of residuals whose mean is zero. */
function spread(residuals: readonly number[]): number | undefined {
  const n = residuals.length;
  if (n < 2) return undefined;
  let squares = 0;
  for (const residual of residuals) squares += residual * residual;
  return Math.sqrt((n / (n - 1)) * squares);
}
