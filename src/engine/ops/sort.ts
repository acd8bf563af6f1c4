import { defineOp, type OpDef, type OpSample, type Oracle } from "../ir/op.ts";
import { apply, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { scatterAlongAddOp } from "./along.ts";
import { toFloat32 } from "./cast.ts";
import { at, expectDType, fail, formatType, oracle } from "./support.ts";

function sample(name: string, shape: readonly number[], attrs: object, values?: readonly number[]): OpSample {
  const given = values === undefined ? {} : { values, noGradientCheck: "equal elements change places" };
  const { noGradientCheck, ...more } = given as { noGradientCheck?: string; values?: readonly number[] };
  return {
    name,
    inputs: [{ shape, dtype: "float32", ...more }],
    attrs: { ...attrs },
    ...(noGradientCheck === undefined ? {} : { noGradientCheck }),
  };
}

/** The first k of each row in order, and their positions int32. attrs: {k, descending}. */
export const sortOp: OpDef = defineOp({
  name: "sort",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "sort");
    expectDType(x, "float32", "sort", "a tensor");
    const k = attrs["k"] as number;
    const n = x.shape.at(-1);
    if (n === undefined || !Number.isInteger(k) || k < 0 || k > n) {
      fail("topK", `0 <= k <= ${n ?? "the last axis"}`, `k = ${k} of ${formatType(x)}`, "lower k, or pad the rows");
    }
    const shape = [...x.shape.slice(0, -1), k];
    return [
      { shape, dtype: "float32" },
      { shape, dtype: "int32" },
    ];
  },
  evaluate: ([x], attrs, types) => {
    const [values, indices] = types.map((type: TensorType) => oracle(type)) as [Oracle, Oracle];
    const { data, shape } = x as Oracle;
    const [n, k] = [shape.at(-1) as number, attrs["k"] as number];
    const sign = attrs["descending"] ? -1 : 1;
    const rank = (v: number): number => (Number.isNaN(v) ? Number.POSITIVE_INFINITY : v);
    for (let row = 0; row * k < values.data.length; row++) {
      const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => {
        const [p, q] = [rank(data[row * n + a] as number), rank(data[row * n + b] as number)];
        return p === q ? a - b : p < q ? -sign : sign;
      });
      for (let i = 0; i < k; i++) {
        indices.data[row * k + i] = order[i] as number;
        values.data[row * k + i] = data[row * n + (order[i] as number)] as number;
      }
    }
    return [values, indices];
  },
  gradient: ({ inputs: [x], outputs: [, indices], cotangents: [dy] }) => {
    if (dy === undefined) return [undefined];
    const { shape, rank } = x as Tensor;
    return [apply1(scatterAlongAddOp, [indices as Tensor, dy], { axis: rank - 1, size: shape.at(-1) as number })];
  },
  lower: { kind: "kernel", kernel: "sort", ints: ({ attrs }) => [attrs["descending"] ? 1 : 0] },
  samples: [
    sample("ascending", [4, 8], { k: 8, descending: false }),
    sample("odd, descending", [3, 5, 13], { k: 13, descending: true }),
    sample("first few", [3, 1003], { k: 5, descending: true }),
    sample("most", [3, 37], { k: 20, descending: false }),
    sample("ties in order", [2, 6], { k: 6, descending: true }, [1, 2, 1, 2, 2, 1, 0, 0, 0, 0, 0, 0]),
    sample(
      "ties, first few",
      [1, 40],
      { k: 3, descending: false },
      Array.from({ length: 40 }, (_, i) => i % 3),
    ),
    sample("none", [3, 5], { k: 0, descending: true }),
    sample("empty", [0, 4], { k: 2, descending: true }),
    sample("size-1", [1], { k: 1, descending: true }),
  ],
});

export interface Sorted {
  readonly values: Tensor;
  /** int32: where each value was. */
  readonly indices: Tensor;
}

function sorted(x: Tensor, k: number, descending: boolean): Sorted {
  const [values, indices] = apply(sortOp, [toFloat32(x)], { k, descending }) as [Tensor, Tensor];
  return { values, indices };
}

/** The k largest of each row x[..., V], largest first; of equals the earlier first. NaN counts as largest. */
export function topK(x: Tensor, k: number): Sorted {
  return sorted(x, k, true);
}

/** Rows of x[..., V] in order, with positions; stable. NaN counts as largest. */
export function sort(x: Tensor, options: { descending?: boolean } = {}): Sorted {
  return sorted(x, x.shape.at(-1) ?? 0, options.descending ?? false);
}

/** Positions int32[..., V] that put each row in order; stable. */
export function argsort(x: Tensor, options: { descending?: boolean } = {}): Tensor {
  return sort(x, options).indices;
}
