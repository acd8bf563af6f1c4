/** Lower and upper end. */
export type Interval = readonly [low: number, high: number];

/** The middle 95 % of values, by linear interpolation between order statistics. */
export function interval(values: readonly number[], coverage = 0.95): Interval {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const at = (share: number): number => {
    const place = share * (sorted.length - 1);
    const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]] as [number, number];
    return below === above ? below : below + (above - below) * (place - Math.floor(place));
  };
  if (sorted.length === 0) return [Number.NaN, Number.NaN];
  return [at((1 - coverage) / 2), at((1 + coverage) / 2)];
}
