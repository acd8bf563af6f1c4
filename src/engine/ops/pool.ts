import { defineOp, type OpDef, type OpSample, type Oracle } from "../ir/op.ts";
import { formatShape, rowMajorStrides, type Shape, sizeOf } from "../ir/shape.ts";
import { type Attrs, apply, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { scatterAlongAddOp } from "./along.ts";
import { mul } from "./arithmetic.ts";
import { toFloat32 } from "./cast.ts";
import { conv } from "./conv.ts";
import { indices, windowCount } from "./conv-geometry.ts";
import { mean } from "./max.ts";
import { reshape } from "./reshape.ts";
import { constant, scalar } from "./source.ts";
import { broadcastTo } from "./sum.ts";
import { at, expectDType, fail, formatType, intsOf, oracle } from "./support.ts";

interface Windows {
  readonly size: Shape;
  readonly out: Shape;
  readonly kernel: Shape;
  readonly stride: Shape;
  readonly low: Shape;
  readonly dilation: Shape;
}

/** Windows over the spatial axes of x[N, C, ...]. Throws where one holds no element. */
function windowsOf(op: string, x: TensorType, attrs: Attrs): Windows {
  const axes = x.shape.length - 2;
  if (axes < 1 || axes > 3) fail(op, "x[N, C, ...] with one to three spatial axes", formatType(x), "reshape it");
  const [kernel, stride, low, high, dilation] = ["kernel", "stride", "low", "high", "dilation"].map((name) =>
    intsOf(attrs[name]),
  ) as [Shape, Shape, Shape, Shape, Shape];
  if ([kernel, stride, low, high, dilation].some((list) => list.length !== axes)) {
    fail(op, `${axes} sizes, strides, dilations and paddings`, `${kernel.length} sizes`, "give one per spatial axis");
  }
  const isBelow = (list: Shape, least: number): boolean => list.some((n) => !Number.isInteger(n) || n < least);
  if (isBelow(kernel, 1) || isBelow(stride, 1) || isBelow(dilation, 1) || isBelow(low, 0) || isBelow(high, 0)) {
    const got = `kernel ${kernel}, stride ${stride}, dilation ${dilation}, padding ${low} and ${high}`;
    fail(op, "whole numbers: kernel, stride and dilation >= 1, padding >= 0", got, "check the options");
  }
  const size = x.shape.slice(2);
  const out = size.map((n, i) => {
    const [k, s, l, d] = [kernel[i], stride[i], low[i], dilation[i]] as [number, number, number, number];
    const count = windowCount(n, k, { stride: s, margin: l + (high[i] as number), dilation: d });
    for (let w = 0; w < count; w++) {
      const places = Array.from({ length: k }, (_, t) => w * s + t * d - l);
      if (places.some((p) => p >= 0 && p < n)) continue;
      fail(op, "an element in every window", `padding ${l} and ${high[i]} for windows of ${k}`, "lower the padding");
    }
    return count;
  });
  return { size, out, kernel, stride, low, dilation };
}

/** Elements of the window at an output place that lie inside, as positions in a row-major plane. */
function inside(w: Windows, place: Shape): number[] {
  const steps = rowMajorStrides(w.size);
  const found: number[] = [];
  for (const tap of indices(w.kernel)) {
    const point = place.map(
      (p, i) => p * (w.stride[i] as number) + (tap[i] as number) * (w.dilation[i] as number) - (w.low[i] as number),
    );
    if (point.some((v, i) => v < 0 || v >= (w.size[i] as number))) continue;
    found.push(point.reduce((sum, v, i) => sum + v * (steps[i] as number), 0));
  }
  return found;
}

function sample(
  name: string,
  shape: Shape,
  attrs: Partial<Record<"kernel" | "stride" | "low" | "high" | "dilation", Shape>>,
): OpSample {
  const fill = (n: number): Shape => new Array<number>(shape.length - 2).fill(n);
  const all = { kernel: fill(2), stride: fill(1), low: fill(0), high: fill(0), dilation: fill(1), ...attrs };
  return { name, inputs: [{ shape, dtype: "float32" }], attrs: all };
}

/** Largest element of each window and its position in the plane (int32). attrs: {kernel, stride, low, high, dilation}. */
export const maxPoolOp: OpDef = defineOp({
  name: "maxPool",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "maxPool");
    expectDType(x, "float32", "maxPool", "a tensor");
    const shape = [...x.shape.slice(0, 2), ...windowsOf("maxPool", x, attrs).out];
    return [
      { shape, dtype: "float32" },
      { shape, dtype: "int32" },
    ];
  },
  evaluate: ([x], attrs, types) => {
    const [values, positions] = types.map((type: TensorType) => oracle(type)) as [Oracle, Oracle];
    const w = windowsOf("maxPool", x as Oracle, attrs);
    const [points, results] = [sizeOf(w.size), sizeOf(w.out)];
    let p = 0;
    for (const place of indices(w.out)) {
      const window = inside(w, place);
      for (let plane = 0; plane * results < values.data.length; plane++) {
        const of = (i: number): number => (x as Oracle).data[plane * points + i] as number;
        const best = window.reduce((a, b) => (of(b) > of(a) || (Number.isNaN(of(b)) && !Number.isNaN(of(a))) ? b : a));
        values.data[plane * results + p] = of(best);
        positions.data[plane * results + p] = best;
      }
      p++;
    }
    return [values, positions];
  },
  gradient: ({ inputs: [x], outputs: [, positions], cotangents: [dy] }) => {
    if (dy === undefined) return [undefined];
    const { shape } = x as Tensor;
    const flat = (t: Tensor): Tensor => reshape(t, [...t.shape.slice(0, 2), sizeOf(t.shape.slice(2))]);
    const attrs = { axis: 2, size: sizeOf(shape.slice(2)) };
    return [reshape(apply1(scatterAlongAddOp, [flat(positions as Tensor), flat(dy)], attrs), shape)];
  },
  lower: {
    kind: "kernel",
    kernel: "max_pool",
    ints: ({ attrs }) => [
      intsOf(attrs["kernel"]).length,
      ...["kernel", "stride", "low", "dilation"].flatMap((name) => intsOf(attrs[name])),
    ],
  },
  samples: [
    sample("1-D", [2, 3, 17], { kernel: [3] }),
    sample("2-D, halved", [2, 3, 8, 10], { stride: [2, 2] }),
    sample("2-D, padded", [1, 2, 7, 9], { kernel: [3, 3], stride: [2, 2], low: [1, 1], high: [1, 1] }),
    sample("dilated", [1, 2, 9, 7], { kernel: [2, 3], dilation: [3, 2], low: [1, 0] }),
    sample("3-D", [1, 2, 4, 5, 7], { stride: [2, 1, 2], high: [0, 1, 0] }),
    sample("larger", [2, 5, 33, 35], { kernel: [3, 3], stride: [2, 2], low: [1, 1], high: [1, 1] }),
    sample("smaller than a window", [1, 2, 1], {}),
    sample("odd", [1, 3, 5], { kernel: [3] }),
    sample("empty", [0, 3, 5], {}),
    sample("size-1", [1, 1, 1], { kernel: [1] }),
  ],
});

/** Per spatial axis, or one number for all; padding also as [before, after]. `stride` is the kernel's size by default. */
export interface PoolOptions {
  readonly kernel: number | readonly number[];
  readonly stride?: number | readonly number[];
  readonly padding?: number | readonly (number | readonly [before: number, after: number])[];
}

function attrsOf(op: string, x: Tensor, options: PoolOptions & { dilation?: number | readonly number[] }) {
  const axes = x.rank - 2;
  const each = (value: number | readonly number[]): readonly number[] => {
    const list = typeof value === "number" ? new Array<number>(Math.max(axes, 0)).fill(value) : value;
    if (list.length !== axes) fail(op, `${axes} numbers, one per spatial axis`, formatShape(list), "list every axis");
    return list;
  };
  const padding = options.padding ?? 0;
  const side = (i: 0 | 1) =>
    each(typeof padding === "number" ? padding : padding.map((p) => (typeof p === "number" ? p : p[i])));
  const kernel = each(options.kernel);
  return {
    kernel,
    stride: each(options.stride ?? kernel),
    low: side(0),
    high: side(1),
    dilation: each(options.dilation ?? 1),
  };
}

/** Largest element of each window (torch.nn.functional.max_pool*, ceil_mode off): x[N, C, ...] -> [N, C, ...]. float32. */
export function maxPool(x: Tensor, options: PoolOptions & { dilation?: number | readonly number[] }): Tensor {
  return apply(maxPoolOp, [toFloat32(x)], attrsOf("maxPool", x, options))[0] as Tensor;
}

/**
 * Mean of each window (torch.nn.functional.avg_pool*, ceil_mode off): x[N, C, ...] -> [N, C, ...]. float32. Padding counts
 * as zeros, unless `countIncludePad` is false.
 */
export function avgPool(x: Tensor, options: PoolOptions & { countIncludePad?: boolean }): Tensor {
  const attrs = attrsOf("avgPool", x, options);
  const w = windowsOf("avgPool", x, attrs);
  const [N, C] = x.shape as [number, number];
  const taps = sizeOf(w.kernel);
  const onePad = attrs.low.map((l, i) => [l, attrs.high[i] as number] as const);
  const weight = broadcastTo(scalar(1 / taps), [1, 1, ...w.kernel]);
  const sums = conv(reshape(x, [N * C, 1, ...w.size]), weight, { stride: w.stride, padding: onePad });
  const y = reshape(sums, [N, C, ...w.out]);
  if (options.countIncludePad !== false || onePad.every(([a, b]) => a === 0 && b === 0)) return y;
  const counts: number[] = [];
  for (const place of indices(w.out)) counts.push(taps / inside(w, place).length);
  return mul(y, constant(Float32Array.from(counts), { shape: w.out }));
}

/** Mean over all spatial axes, which stay with size 1 (adaptive average pooling to one point). float32. */
export function globalAvgPool(x: Tensor): Tensor {
  return mean(x, { axes: x.shape.slice(2).map((_, i) => i + 2), keepDims: true });
}
