import type { DType } from "../ir/dtype.ts";
import type { OpSample, SampleInput } from "../ir/op.ts";

interface Case {
  readonly name: string;
  /** [B, T, S, H, G, K]. */
  readonly sizes: readonly [number, number, number, number, number, number];
  readonly causal?: boolean;
  readonly start?: readonly number[];
  readonly segments?: readonly [q: readonly number[], k: readonly number[]];
  readonly window?: number;
  readonly bias?: readonly [b: number, h: number, t: number];
  readonly softCap?: number;
  readonly dropout?: number;
  /** Element type of q, k, v, out and the gradients, with products of bfloat16 operands. */
  readonly narrow?: DType;
  readonly operands?: "bfloat16";
}

const cases: readonly Case[] = [
  { name: "normal", sizes: [2, 4, 4, 2, 2, 8], causal: true },
  { name: "all keys, odd", sizes: [1, 7, 5, 3, 3, 13] },
  { name: "grouped heads", sizes: [2, 5, 5, 6, 2, 4], causal: true },
  { name: "with a cache", sizes: [2, 1, 9, 4, 2, 8], causal: true, start: [3, 8] },
  { name: "window", sizes: [1, 9, 9, 2, 1, 4], causal: true, window: 3 },
  {
    name: "segments",
    sizes: [1, 6, 6, 2, 2, 5],
    causal: true,
    segments: [
      [0, 0, 1, 1, 1, 2],
      [0, 0, 1, 1, 1, 2],
    ],
  },
  {
    name: "a row that sees nothing",
    sizes: [1, 3, 4, 2, 1, 4],
    segments: [
      [0, 9, 1],
      [0, 0, 1, 1],
    ],
  },
  {
    name: "everything at once",
    sizes: [2, 3, 7, 4, 2, 6],
    causal: true,
    start: [2, 4],
    window: 4,
    segments: [
      [1, 1, 2, 3, 3, 3],
      [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3],
    ],
  },
  { name: "larger", sizes: [1, 70, 70, 2, 1, 16], causal: true },
  { name: "bfloat16 operands", sizes: [2, 21, 21, 4, 2, 10], causal: true, operands: "bfloat16" },
  { name: "bfloat16 operands, odd", sizes: [1, 70, 67, 3, 1, 13], operands: "bfloat16" },
  { name: "bfloat16 in and out", sizes: [1, 33, 33, 2, 2, 16], causal: true, operands: "bfloat16", narrow: "bfloat16" },
  { name: "float16 in and out", sizes: [1, 5, 9, 2, 2, 6], narrow: "float16" },
  { name: "bias", sizes: [2, 5, 7, 4, 2, 6], bias: [1, 4, 5] },
  { name: "bias, odd", sizes: [1, 5, 7, 3, 3, 5], bias: [1, 1, 5] },
  { name: "bias of every head and row", sizes: [2, 3, 3, 2, 1, 5], causal: true, bias: [2, 2, 3] },
  { name: "bias of keys", sizes: [3, 4, 9, 2, 2, 8], bias: [1, 2, 1] },
  { name: "bias over blocks", sizes: [1, 70, 67, 2, 1, 3], bias: [1, 1, 70] },
  { name: "bias, empty", sizes: [0, 3, 3, 2, 2, 4], bias: [1, 2, 3] },
  { name: "bias, size-1", sizes: [1, 1, 1, 1, 1, 1], bias: [1, 1, 1] },
  { name: "capped scores", sizes: [1, 9, 9, 2, 1, 4], causal: true, softCap: 0.7 },
  { name: "dropout", sizes: [2, 9, 13, 4, 2, 4], dropout: 0.3 },
  { name: "dropout over blocks", sizes: [1, 70, 67, 1, 1, 4], causal: true, dropout: 0.5 },
  {
    name: "bias, cap and dropout",
    sizes: [2, 21, 33, 2, 1, 7],
    causal: true,
    start: [12, 3],
    window: 9,
    bias: [1, 2, 21],
    softCap: 2,
    dropout: 0.25,
    operands: "bfloat16",
  },
  { name: "empty", sizes: [0, 3, 3, 2, 2, 4], causal: true },
  { name: "size-1", sizes: [1, 1, 1, 1, 1, 1], causal: true },
];

function build(c: Case, more: readonly SampleInput[]): OpSample {
  const [B, T, S, H, G, K] = c.sizes;
  const dtype = c.narrow ?? "float32";
  const kv: SampleInput = { shape: [B, S, G, K], dtype };
  const inputs: SampleInput[] = [{ shape: [B, T, H, K], dtype }, kv, kv, ...more];
  if (c.start !== undefined) inputs.push({ shape: [B], dtype: "int32", values: c.start });
  if (c.segments !== undefined) {
    inputs.push({ shape: [B, T], dtype: "int32", values: c.segments[0] });
    inputs.push({ shape: [B, S], dtype: "int32", values: c.segments[1] });
  }
  if (c.bias !== undefined) inputs.push({ shape: [...c.bias, S], dtype: "float32" });
  if (c.dropout !== undefined) inputs.push({ shape: [2], dtype: "int32", values: [5, 6] });
  return {
    name: c.name,
    inputs,
    attrs: {
      causal: c.causal ?? false,
      hasStart: c.start !== undefined,
      hasSegments: c.segments !== undefined,
      window: c.window ?? 0,
      scale: 1 / Math.sqrt(K),
      ...(c.bias === undefined ? {} : { hasBias: true }),
      ...(c.softCap === undefined ? {} : { softCap: c.softCap }),
      ...(c.dropout === undefined ? {} : { dropoutRate: c.dropout, stream: 3 }),
      ...(c.operands === undefined ? {} : { operands: c.operands }),
      ...(c.narrow === undefined ? {} : { dtype: c.narrow }),
    },
    tolerance: c.operands === undefined && c.narrow === undefined ? 1e-4 : 4e-2,
    ...(c.operands === undefined ? {} : { noGradientCheck: "rounding is a staircase; its gradient is taken as 1" }),
  };
}

export const attentionSamples: readonly OpSample[] = cases.map((c) => build(c, []));

/** The gradient ops on their own (the large cases reach them through the gradient of attention): out, lse and dout are independent values, lse large enough to keep weights moderate. */
const smallCases = cases.filter(({ sizes: [, T] }) => T < 60);
export const attentionGradSamples: readonly OpSample[] = smallCases.map((c) => {
  const [B, T, , H, , K] = c.sizes;
  const rows: SampleInput = { shape: [B, T, H, K], dtype: c.narrow ?? "float32" };
  const low = c.operands === undefined ? 1 : 4;
  return build(c, [rows, { shape: [B, H, T], dtype: "float32", low, high: low + 2 }, rows]);
});

export const attentionBiasGradSamples: readonly OpSample[] = attentionGradSamples.filter(
  ({ attrs }) => attrs?.["hasBias"] === true,
);
