import { bfloat16ToNumber, numberToBfloat16 } from "../ir/convert.ts";
import { formatShape, rowMajorStrides, type Shape } from "../ir/shape.ts";
import type { Attrs } from "../ir/tensor.ts";
import { fail, intsOf } from "./support.ts";

/** Shapes of one convolution: x[N, C, size], weight[O, C / groups, kernel], y[N, O, out]. */
export interface ConvGeometry {
  readonly batch: number;
  readonly outputs: number;
  readonly groups: number;
  readonly groupInputs: number;
  readonly size: Shape;
  readonly kernel: Shape;
  readonly out: Shape;
  readonly stride: Shape;
  readonly low: Shape;
  readonly dilation: Shape;
}

/** Points of the result along one axis. */
export function windowCount(n: number, taps: number, o: { stride: number; margin: number; dilation: number }): number {
  return Math.max(0, Math.floor((n + o.margin - o.dilation * (taps - 1) - 1) / o.stride) + 1);
}

/** Checks shapes and attributes against each other and gives the result's points. */
export function convGeometry(op: string, x: Shape, weight: Shape, attrs: Attrs): ConvGeometry {
  const axes = x.length - 2;
  if (axes < 1 || axes > 3 || weight.length !== x.length) {
    fail(
      op,
      "x[N, C, ...] and weight[O, C / groups, ...] with one to three spatial axes",
      `${formatShape(x)} and ${formatShape(weight)}`,
      "reshape them; channels come before the spatial axes",
    );
  }
  const [batch, channels, ...size] = x as [number, number, ...number[]];
  const [outputs, groupInputs, ...kernel] = weight as [number, number, ...number[]];
  const groups = attrs["groups"] as number;
  if (!Number.isInteger(groups) || groups < 1 || channels !== groupInputs * groups || outputs % groups !== 0) {
    fail(
      op,
      `weight[O, ${channels} / groups, ...] with groups dividing both`,
      `weight ${formatShape(weight)} and groups ${groups}`,
      "check groups, and which tensor is the weight",
    );
  }
  const [stride, low, high, dilation] = ["stride", "low", "high", "dilation"].map((name) => intsOf(attrs[name]));
  const isBelow = (list: Shape | undefined, least: number): boolean =>
    list === undefined || list.length !== axes || list.some((n) => !Number.isInteger(n) || n < least);
  if (isBelow(stride, 1) || isBelow(dilation, 1) || isBelow(low, 0) || isBelow(high, 0) || isBelow(kernel, 1)) {
    fail(
      op,
      "whole numbers per axis: taps, stride and dilation >= 1, padding >= 0",
      `taps ${formatShape(kernel)}, stride ${stride}, dilation ${dilation}, padding ${low} and ${high}`,
      "slice the input to crop",
    );
  }
  const out = size.map((n, i) =>
    windowCount(n, kernel[i] as number, {
      stride: stride?.[i] as number,
      margin: (low?.[i] as number) + (high?.[i] as number),
      dilation: dilation?.[i] as number,
    }),
  );
  return {
    batch,
    outputs,
    groups,
    groupInputs,
    size,
    kernel,
    out,
    stride: stride as Shape,
    low: low as Shape,
    dilation: dilation as Shape,
  };
}

/** All indices of a shape, in row-major order: one array, changed from step to step. */
export function* indices(shape: Shape): Generator<readonly number[]> {
  const index = shape.map(() => 0);
  if (shape.includes(0)) return;
  for (;;) {
    yield index;
    let axis = shape.length - 1;
    while (axis >= 0) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      index[axis--] = 0;
    }
    if (axis < 0) return;
  }
}

/** Calls visit(index in x, in weight, in y) for every product that the convolution adds. */
export function forEachTerm(g: ConvGeometry, visit: (x: number, weight: number, y: number) => void): void {
  const channels = g.groupInputs * g.groups;
  const groupOutputs = g.outputs / g.groups;
  const count = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);
  const [points, taps, results] = [count(g.size), count(g.kernel), count(g.out)];
  const steps = rowMajorStrides(g.size);
  let p = -1;
  for (const at of indices(g.out)) {
    p++;
    let t = -1;
    for (const tap of indices(g.kernel)) {
      t++;
      let from = 0;
      let isInside = true;
      for (let i = 0; i < at.length; i++) {
        const [a, s, k] = [at[i] as number, g.stride[i] as number, tap[i] as number];
        const position = a * s + k * (g.dilation[i] as number) - (g.low[i] as number);
        isInside &&= position >= 0 && position < (g.size[i] as number);
        from += position * (steps[i] as number);
      }
      if (!isInside) continue;
      for (let n = 0; n < g.batch; n++) {
        for (let o = 0; o < g.outputs; o++) {
          const first = Math.floor(o / groupOutputs) * g.groupInputs;
          for (let c = 0; c < g.groupInputs; c++) {
            visit(
              (n * channels + first + c) * points + from,
              (o * g.groupInputs + c) * taps + t,
              (n * g.outputs + o) * results + p,
            );
          }
        }
      }
    }
  }
}

/** A value as a bfloat16 product sees it. */
export function roundOperand(x: number): number {
  return bfloat16ToNumber(numberToBfloat16(x));
}
