import { defineOp, type OpDef, type Oracle } from "../ir/op.ts";
import { formatShape, type Shape, sizeOf } from "../ir/shape.ts";
import { type Attrs, apply1, type Node, type Tensor, type TensorType } from "../ir/tensor.ts";
import { add } from "./arithmetic.ts";
import { convGeometry, forEachTerm, roundOperand } from "./conv-geometry.ts";
import { convInputGradSamples, convSamples, convWeightGradSamples } from "./conv-samples.ts";
import { reshape } from "./reshape.ts";
import { at, expectFloating, expectShape, fail, formatType, intsOf, oracle } from "./support.ts";

/** attrs of all three ops: {stride, low, high, dilation, groups, operands}; gradients also have the shape they rebuild. */
type Pair = readonly [TensorType, TensorType];

function floating(inputs: readonly TensorType[], op: string): Pair {
  const pair = [at(inputs, 0, op), at(inputs, 1, op)] as const;
  for (const type of pair) expectFloating(type, op);
  return pair;
}

/** Both operands as they enter the products: rounded to bfloat16 where the attribute says so. */
function operandData([a, b]: readonly Oracle[], attrs: Attrs): [Float64Array, Float64Array] {
  const round = (x: Oracle) => (attrs["operands"] === "bfloat16" ? x.data.map(roundOperand) : x.data);
  return [round(a as Oracle), round(b as Oracle)];
}

function lowering(kernel: string): OpDef["lower"] {
  return {
    kind: "kernel",
    kernel,
    ints: ({ attrs }) => [
      attrs["operands"] === "bfloat16" ? 1 : 0,
      attrs["groups"] as number,
      intsOf(attrs["stride"]).length,
      ...intsOf(attrs["stride"]),
      ...intsOf(attrs["low"]),
      ...intsOf(attrs["dilation"]),
    ],
    workspaceBytes: ({ inputs, attrs }: Node) =>
      attrs["operands"] === "bfloat16" ? inputs.reduce((sum, x) => sum + Math.ceil(sizeOf(x.shape) / 32) * 64, 0) : 0,
  };
}

/** x[N, C, ...], weight[O, C / groups, ...] -> y[N, O, ...]. */
export const convOp: OpDef = defineOp({
  name: "conv",
  infer: (inputs, attrs) => {
    const [x, weight] = floating(inputs, "conv");
    const { out } = convGeometry("conv", x.shape, weight.shape, attrs);
    return [{ shape: [x.shape[0] as number, weight.shape[0] as number, ...out], dtype: "float32" }];
  },
  evaluate: (inputs, attrs, [type]) => {
    const y = oracle(type as TensorType);
    const [x, w] = operandData(inputs, attrs);
    const [xShape, wShape] = inputs.map((t) => t.shape) as [Shape, Shape];
    forEachTerm(convGeometry("conv", xShape, wShape, attrs), (xi, wi, yi) => {
      y.data[yi] = (y.data[yi] as number) + (x[xi] as number) * (w[wi] as number);
    });
    return [y];
  },
  gradient: ({ node, inputs: [x, weight], cotangents: [dy], needed }) => [
    dy !== undefined && needed[0] ? inputGrad(dy, weight as Tensor, x as Tensor, node.attrs) : undefined,
    dy !== undefined && needed[1] ? weightGrad(x as Tensor, dy, weight as Tensor, node.attrs) : undefined,
  ],
  lower: lowering("conv"),
  samples: convSamples,
});

/** Gradient of {@link convOp} by x, which is the transposed convolution: (dy, weight) -> dx. attrs also {size: x's points}. */
export const convInputGradOp: OpDef = defineOp({
  name: "convInputGrad",
  infer: (inputs, attrs) => {
    const [dy, weight] = floating(inputs, "convInputGrad");
    const channels = (weight.shape[1] as number) * (attrs["groups"] as number);
    const shape = [dy.shape[0] as number, channels, ...intsOf(attrs["size"])];
    const { out } = convGeometry("convInputGrad", shape, weight.shape, attrs);
    expectShape(dy, [shape[0] as number, weight.shape[0] as number, ...out], "convInputGrad", "dy");
    return [{ shape, dtype: "float32" }];
  },
  evaluate: (inputs, attrs, [type]) => {
    const dx = oracle(type as TensorType);
    const [dy, w] = operandData(inputs, attrs);
    const geometry = convGeometry("convInputGrad", dx.shape, (inputs[1] as Oracle).shape, attrs);
    forEachTerm(geometry, (xi, wi, yi) => {
      dx.data[xi] = (dx.data[xi] as number) + (dy[yi] as number) * (w[wi] as number);
    });
    return [dx];
  },
  gradient: ({ node, inputs: [dy, weight], cotangents: [ddx], needed }) => [
    ddx !== undefined && needed[0] ? apply1(convOp, [ddx, weight as Tensor], convAttrs(node.attrs)) : undefined,
    ddx !== undefined && needed[1] ? weightGrad(ddx, dy as Tensor, weight as Tensor, node.attrs) : undefined,
  ],
  lower: lowering("conv_input_grad"),
  samples: convInputGradSamples,
});

/** Gradient of {@link convOp} by the weight: (x, dy) -> dweight. attrs also {kernel: the weight's taps}. */
export const convWeightGradOp: OpDef = defineOp({
  name: "convWeightGrad",
  infer: (inputs, attrs) => {
    const [x, dy] = floating(inputs, "convWeightGrad");
    const channels = (x.shape[1] as number) / (attrs["groups"] as number);
    const shape = [dy.shape[1] as number, channels, ...intsOf(attrs["kernel"])];
    const { out } = convGeometry("convWeightGrad", x.shape, shape, attrs);
    expectShape(dy, [x.shape[0] as number, shape[0] as number, ...out], "convWeightGrad", "dy");
    return [{ shape, dtype: "float32" }];
  },
  evaluate: (inputs, attrs, [type]) => {
    const dw = oracle(type as TensorType);
    const [x, dy] = operandData(inputs, attrs);
    forEachTerm(convGeometry("convWeightGrad", (inputs[0] as Oracle).shape, dw.shape, attrs), (xi, wi, yi) => {
      dw.data[wi] = (dw.data[wi] as number) + (x[xi] as number) * (dy[yi] as number);
    });
    return [dw];
  },
  gradient: ({ node, inputs: [x, dy], cotangents: [ddw], needed }) => [
    ddw !== undefined && needed[0] ? inputGrad(dy as Tensor, ddw, x as Tensor, node.attrs) : undefined,
    ddw !== undefined && needed[1] ? apply1(convOp, [x as Tensor, ddw], convAttrs(node.attrs)) : undefined,
  ],
  lower: lowering("conv_weight_grad"),
  samples: convWeightGradSamples,
});

function convAttrs({ stride, low, high, dilation, groups, operands }: Attrs): Attrs {
  return { stride, low, high, dilation, groups, operands };
}
function inputGrad(dy: Tensor, weight: Tensor, x: Tensor, attrs: Attrs): Tensor {
  return apply1(convInputGradOp, [dy, weight], { ...convAttrs(attrs), size: x.shape.slice(2) });
}
function weightGrad(x: Tensor, dy: Tensor, weight: Tensor, attrs: Attrs): Tensor {
  return apply1(convWeightGradOp, [x, dy], { ...convAttrs(attrs), kernel: weight.shape.slice(2) });
}

/** Per spatial axis, or one number for all; padding also as [before, after] per axis. */
export interface ConvOptions {
  readonly stride?: number | readonly number[];
  readonly padding?: number | readonly (number | readonly [before: number, after: number])[];
  readonly dilation?: number | readonly number[];
  readonly groups?: number;
  /** bias[O], added to every point. */
  readonly bias?: Tensor;
}

function attrsOf(op: string, axes: number, options: ConvOptions): Attrs & { low: number[]; high: number[] } {
  const each = (value: number | readonly number[] | undefined, fallback: number): number[] => {
    const list = value === undefined || typeof value === "number" ? new Array(axes).fill(value ?? fallback) : value;
    if (list.length !== axes) fail(op, `${axes} numbers, one per spatial axis`, formatShape(list), "list every axis");
    return [...list];
  };
  const { padding } = options;
  const sides = (side: 0 | 1): number[] =>
    padding === undefined || typeof padding === "number"
      ? each(padding, 0)
      : each(
          padding.map((p) => (typeof p === "number" ? p : p[side])),
          0,
        );
  return {
    stride: each(options.stride, 1),
    low: sides(0),
    high: sides(1),
    dilation: each(options.dilation, 1),
    groups: options.groups ?? 1,
    operands: "float32",
  };
}

function withBias(y: Tensor, bias: Tensor | undefined, op: string): Tensor {
  if (bias === undefined) return y;
  expectShape(bias, [y.shape[1] as number], op, "bias");
  return add(y, reshape(bias, [y.shape[1] as number, ...y.shape.slice(2).map(() => 1)]));
}

/**
 * Convolution (cross-correlation, as in torch.nn.functional.conv1d/2d/3d) over one to three spatial axes: x[N, C, ...],
 * weight[O, C / groups, ...] -> float32[N, O, ...], summed in float32. Zero padding per side.
 */
export function conv(x: Tensor, weight: Tensor, options: ConvOptions = {}): Tensor {
  const y = apply1(convOp, [x, weight], attrsOf("conv", x.rank - 2, options));
  return withBias(y, options.bias, "conv");
}

/**
 * Transposed convolution (torch.nn.functional.conv_transpose*): x[N, C, ...], weight[C, O / groups, ...] ->
 * float32[N, O, ...] of (n - 1) * stride - padding + dilation * (taps - 1) + 1 + outputPadding points per axis.
 */
export function convTranspose(
  x: Tensor,
  weight: Tensor,
  options: ConvOptions & { readonly outputPadding?: number | readonly number[] } = {},
): Tensor {
  const op = "convTranspose";
  const axes = x.rank - 2;
  const attrs = attrsOf(op, axes, options);
  if (weight.rank !== x.rank || weight.shape[0] !== x.shape[1] || axes < 1 || axes > 3) {
    fail(
      op,
      "x[N, C, ...] and weight[C, O / groups, ...] with one to three spatial axes",
      `${formatType(x)} and ${formatType(weight)}`,
      "the weight's first axis is the input's channels",
    );
  }
  const stride = intsOf(attrs["stride"]);
  const extra = intsOf(attrsOf(op, axes, { padding: 0, stride: options.outputPadding ?? 0 })["stride"]);
  const wrong = extra.findIndex((n, i) => n < 0 || n >= (stride[i] as number));
  if (wrong >= 0) {
    fail(op, `outputPadding below the stride ${stride[wrong]}`, `${extra[wrong]}`, "lower it, or pad the result");
  }
  const size = x.shape.slice(2).map((n, i) => {
    const taps = intsOf(attrs["dilation"])[i] as number;
    const reach = taps * ((weight.shape[2 + i] as number) - 1) + 1;
    const margin = (attrs.low[i] as number) + (attrs.high[i] as number);
    return (n - 1) * (stride[i] as number) + reach - margin + (extra[i] as number);
  });
  if (size.some((n) => n < 0)) fail(op, "a result with points", formatShape(size), "lower the padding");
  return withBias(apply1(convInputGradOp, [x, weight], { ...attrs, size }), options.bias, op);
}
