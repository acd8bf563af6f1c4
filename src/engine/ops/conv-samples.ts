import type { DType } from "../ir/dtype.ts";
import type { OpSample } from "../ir/op.ts";
import type { Shape } from "../ir/shape.ts";
import { windowCount } from "./conv-geometry.ts";

interface Case {
  readonly name: string;
  readonly x: Shape;
  readonly weight: Shape;
  readonly stride?: Shape;
  readonly low?: Shape;
  readonly high?: Shape;
  readonly dilation?: Shape;
  readonly groups?: number;
  readonly dtype?: DType;
  readonly operands?: "bfloat16";
}

const cases: readonly Case[] = [
  { name: "1-D", x: [2, 3, 17], weight: [4, 3, 3], low: [1], high: [1] },
  { name: "1-D, strided", x: [2, 5, 33], weight: [7, 5, 3], stride: [2], low: [1], high: [1] },
  { name: "1-D, causal", x: [1, 3, 37], weight: [3, 1, 4], low: [3], groups: 3 },
  { name: "2-D", x: [2, 3, 9, 11], weight: [5, 3, 3, 3], low: [1, 1], high: [1, 1] },
  { name: "2-D, every option", x: [2, 4, 11, 13], weight: [6, 2, 3, 2], stride: [2, 3], low: [1, 0], high: [2, 1], dilation: [2, 1], groups: 2 },
  { name: "shifted, padding on one side", x: [1, 2, 5, 7], weight: [3, 2, 3, 3], low: [2, 0], high: [0, 2] },
  { name: "shifted, wider than the image", x: [1, 2, 3, 2], weight: [3, 2, 5, 5], low: [2, 2], high: [2, 2] },
  { name: "pointwise", x: [2, 7, 5, 9], weight: [9, 7, 1, 1] },
  { name: "pointwise, strided", x: [1, 3, 5, 9], weight: [4, 3, 1, 1], stride: [2, 2] },
  { name: "patches", x: [2, 3, 8, 12], weight: [5, 3, 4, 4], stride: [4, 4] },
  { name: "patches, overlapping and padded", x: [1, 2, 9, 13], weight: [5, 2, 5, 6], stride: [4, 4], low: [2, 3], high: [2, 3] },
  { name: "depthwise", x: [2, 5, 7, 19], weight: [5, 1, 3, 3], low: [1, 1], high: [1, 1], groups: 5 },
  { name: "depthwise, strided and dilated", x: [2, 3, 9, 70], weight: [6, 1, 3, 5], stride: [2, 3], low: [2, 1], high: [1, 4], dilation: [1, 2], groups: 3 },
  { name: "3-D", x: [1, 2, 4, 5, 6], weight: [3, 2, 3, 3, 3], low: [1, 1, 1], high: [1, 1, 1] },
  { name: "3-D, strided", x: [1, 2, 5, 6, 8], weight: [3, 2, 2, 3, 4], stride: [2, 1, 4], low: [0, 1, 0], high: [1, 0, 0] },
  { name: "larger", x: [1, 20, 21, 23], weight: [17, 20, 3, 3], low: [1, 1], high: [1, 1] },
  { name: "wide", x: [1, 2, 1500], weight: [3, 2, 3], low: [1], high: [1] },
  { name: "bfloat16", x: [2, 3, 9, 11], weight: [5, 3, 3, 3], low: [1, 1], high: [1, 1], dtype: "bfloat16" },
  { name: "bfloat16 operands", x: [2, 3, 9, 11], weight: [5, 3, 3, 3], low: [1, 1], high: [1, 1], operands: "bfloat16" },
  { name: "float16, depthwise", x: [1, 3, 9, 11], weight: [3, 1, 3, 3], groups: 3, dtype: "float16" },
  { name: "empty", x: [0, 3, 5], weight: [4, 3, 3] },
  { name: "no channels", x: [2, 0, 5], weight: [4, 0, 3] },
  { name: "smaller than the taps", x: [2, 3, 2], weight: [4, 3, 3] },
  { name: "depthwise, smaller than the taps", x: [2, 3, 2], weight: [3, 1, 3], groups: 3 },
  { name: "size-1", x: [1, 1, 1], weight: [1, 1, 1] },
]; // biome-ignore format: one case a line

function sampleOf(c: Case, which: "forward" | "input" | "weight"): OpSample {
  const axes = c.x.length - 2;
  const fill = (list: Shape | undefined, value: number): Shape => list ?? new Array<number>(axes).fill(value);
  const [stride, low, high, dilation] = [fill(c.stride, 1), fill(c.low, 0), fill(c.high, 0), fill(c.dilation, 1)];
  const [size, kernel] = [c.x.slice(2), c.weight.slice(2)];
  const out = size.map((n, i) =>
    windowCount(n, kernel[i] as number, {
      stride: stride[i] as number,
      margin: (low[i] as number) + (high[i] as number),
      dilation: dilation[i] as number,
    }),
  );
  const dtype = c.dtype ?? "float32";
  const [x, weight] = [c.x, c.weight].map((shape) => ({ shape, dtype })) as [never, never];
  const y = { shape: [c.x[0] as number, c.weight[0] as number, ...out], dtype } as never;
  const attrs = { stride, low, high, dilation, groups: c.groups ?? 1, operands: c.operands ?? "float32" };
  return {
    name: c.name,
    inputs: which === "forward" ? [x, weight] : which === "input" ? [y, weight] : [x, y],
    attrs: { ...attrs, ...(which === "input" ? { size } : which === "weight" ? { kernel } : {}) },
    tolerance: 1e-4,
    ...(c.operands === undefined ? {} : { noGradientCheck: "rounding the operands is a step function" }),
  };
}

export const convSamples: readonly OpSample[] = cases.map((c) => sampleOf(c, "forward"));
export const convInputGradSamples: readonly OpSample[] = cases.map((c) => sampleOf(c, "input"));
export const convWeightGradSamples: readonly OpSample[] = cases.map((c) => sampleOf(c, "weight"));
