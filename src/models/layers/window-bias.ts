import { abs, cast, expandDims, iota, lessEqual, reshape, select, sub, type Tensor } from "../../engine/index.ts";

/**
 * Additive bias [1,1,T,T] for attention in which a token sees the `reach` tokens before and after it; undefined where that is all of
 * them. What it does not see has a weight of exactly 0.
 */
export function windowBias(T: number, reach: number): Tensor | undefined {
  if (T <= reach + 1) return undefined;
  const place = cast(iota([T], { axis: 0, dtype: "int32" }), "float32");
  const distance = abs(sub(expandDims(place, 1), expandDims(place, 0)));
  return reshape(select(lessEqual(distance, reach), 0, -1e9), [1, 1, T, T]);
}
