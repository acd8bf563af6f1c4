import { defineOp, type OpDef, type OpSample, type Oracle } from "../ir/op.ts";
import { formatShape, sizeOf } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { toFloat32 } from "./cast.ts";
import { constant } from "./source.ts";
import { at, expectDType, expectShape, fail, oracle } from "./support.ts";

/**
 * Weighted sums along one axis: x[..., n, ...], ids int32[J, T], weights[J, T] -> [..., J, ...]. With `transposed` the adjoint:
 * x[..., J, ...] -> [..., size, ...]. attrs: {axis, size, transposed}. Weights are constants: no gradient reaches them.
 */
export const resampleOp: OpDef = defineOp({
  name: "resample",
  infer: (inputs, attrs) => {
    const [x, ids, weights] = [0, 1, 2].map((i) => at(inputs, i, "resample")) as [TensorType, TensorType, TensorType];
    expectDType(x, "float32", "resample", "values");
    expectDType(ids, "int32", "resample", "indices");
    expectDType(weights, "float32", "resample", "weights");
    expectShape(weights, ids.shape, "resample", "weights");
    const [axis, size] = [attrs["axis"] as number, attrs["size"] as number];
    if (!Number.isInteger(size) || size < 0) fail("resample", "a size of at least 0", `${size}`, "check the size");
    const J = ids.shape[0] as number;
    const wanted = attrs["transposed"] ? J : size;
    if (x.shape[axis] !== wanted)
      fail("resample", `${wanted} values along axis ${axis}`, formatShape(x.shape), "check the axis");
    return [{ shape: x.shape.map((n, i) => (i === axis ? (attrs["transposed"] ? size : J) : n)), dtype: "float32" }];
  },
  evaluate: ([x, ids, weights], attrs, [type]) => {
    const out = oracle(type as TensorType);
    const { data, shape } = x as Oracle;
    const axis = attrs["axis"] as number;
    const [J, T] = (ids as Oracle).shape as [number, number];
    const inner = sizeOf(shape.slice(axis + 1));
    const wide = (attrs["transposed"] ? out.shape[axis] : shape[axis]) as number;
    for (let o = 0; o < sizeOf(shape.slice(0, axis)); o++) {
      for (let jt = 0; jt < J * T; jt++) {
        const id = (ids as Oracle).data[jt] as number;
        if (id < 0 || id >= wide) fail("resample", `indices in [0, ${wide})`, `${id}`, "check them against the axis");
        const w = (weights as Oracle).data[jt] as number;
        for (let i = 0; i < inner; i++) {
          const narrow = (o * J + Math.floor(jt / T)) * inner + i;
          const far = (o * wide + id) * inner + i;
          const [to, from] = attrs["transposed"] ? [far, narrow] : [narrow, far];
          out.data[to] = (out.data[to] as number) + w * (data[from] as number);
        }
      }
    }
    return [out];
  },
  gradient: ({ node: { attrs }, inputs: [, ids, weights], cotangents: [dy] }) => [
    dy === undefined
      ? undefined
      : apply1(resampleOp, [dy, ids as Tensor, weights as Tensor], {
          ...attrs,
          transposed: attrs["transposed"] !== true,
        }),
    undefined,
    undefined,
  ],
  lower: {
    kind: "kernel",
    kernel: "resample",
    ints: ({ attrs }) => [attrs["axis"] as number, attrs["transposed"] ? 1 : 0],
  },
  samples: (
    [
      ["last axis", [3, 8], 1, 8, 5, 2, false],
      ["middle, odd", [3, 5, 19], 1, 5, 9, 3, false],
      ["transposed", [3, 9, 19], 1, 5, 9, 3, true],
      ["transposed, last axis", [5, 7], 1, 4, 7, 2, true],
      ["larger", [3, 7, 1100], 1, 7, 13, 4, false],
      ["empty", [0, 4], 1, 4, 3, 1, false],
      ["size-1", [1], 0, 1, 1, 1, false],
    ] as const
  ).map(
    ([name, shape, axis, size, J, T, transposed]): OpSample => ({
      name,
      inputs: [
        { shape, dtype: "float32" },
        { shape: [J, T], dtype: "int32", low: 0, high: size },
        { shape: [J, T], dtype: "float32", values: Array.from({ length: J * T }, (_, i) => Math.cos(i)) },
      ],
      attrs: { axis, size, transposed },
      noGradientCheck: "the weights are constants by contract; interpolate's own tests differentiate by x",
    }),
  ),
});

export interface InterpolateOptions {
  /** Points per spatial axis of the result. */
  readonly size: readonly number[];
  /** "linear" is bilinear or trilinear on more axes; "cubic" is bicubic (a = -0.75). */
  readonly mode: "nearest" | "linear" | "cubic";
  /** First and last points of input and result coincide. Default false; not for "nearest". */
  readonly alignCorners?: boolean;
}

/** For every result along an axis the elements it is made of, and their weights. */
function taps(
  n: number,
  m: number,
  { mode, alignCorners }: InterpolateOptions,
): { ids: number[][]; weights: number[][] } {
  const scale = alignCorners ? (m > 1 ? (n - 1) / (m - 1) : 0) : n / m;
  const clamp = (i: number): number => Math.min(n - 1, Math.max(0, i));
  const rows = Array.from({ length: m }, (_, j) => {
    if (mode === "nearest") return { ids: [clamp(Math.floor(j * scale))], weights: [1] };
    const exact = alignCorners ? j * scale : (j + 0.5) * scale - 0.5;
    const place = mode === "linear" ? Math.max(0, exact) : exact;
    const first = Math.floor(place);
    const t = place - first;
    if (mode === "linear") return { ids: [clamp(first), clamp(first + 1)], weights: [1 - t, t] };
    return { ids: [-1, 0, 1, 2].map((d) => clamp(first + d)), weights: [t + 1, t, 1 - t, 2 - t].map(cubic) };
  });
  return { ids: rows.map((row) => row.ids), weights: rows.map((row) => row.weights) };
}

/** Keys' cubic convolution kernel (1981) with a = -0.75. */
function cubic(distance: number): number {
  const a = -0.75;
  if (distance <= 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  return ((distance - 5) * distance + 8) * distance * a - 4 * a;
}

/**
 * x[N, C, ...] resized over its spatial axes to `size`, axis after axis, as torch.nn.functional.interpolate(x, size)
 * without antialiasing does. float32.
 */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  const { size, mode } = options;
  if (x.rank < 3 || size.length !== x.rank - 2) {
    fail(
      "interpolate",
      `${Math.max(1, x.rank - 2)} sizes for x[N, C, ...]`,
      `${formatShape(size)} for ${formatShape(x.shape)}`,
      "give one size per spatial axis",
    );
  }
  if (mode === "nearest" && options.alignCorners === true) {
    fail("interpolate", "alignCorners with linear or cubic only", "nearest", "leave alignCorners out");
  }
  let y = toFloat32(x);
  size.forEach((m, i) => {
    const axis = i + 2;
    const n = x.shape[axis] as number;
    if (!Number.isInteger(m) || m < 1 || n < 1) {
      fail("interpolate", "axes with points, to at least one point", `${n} to ${m}`, "check the size");
    }
    if (n === m) return;
    const { ids, weights } = taps(n, m, options);
    const shape = [m, ids[0]?.length ?? 1];
    const constants = [
      constant(Int32Array.from(ids.flat()), { shape }),
      constant(Float32Array.from(weights.flat()), { shape }),
    ];
    y = apply1(resampleOp, [y, ...constants], { axis, size: n, transposed: false });
  });
  return y;
}
