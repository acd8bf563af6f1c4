import { vjpOfDecomposition } from "../autodiff/vjp.ts";
import { defineOp, type OpDef } from "../ir/op.ts";
import type { Attrs, Node, Tensor, TensorType } from "../ir/tensor.ts";
import { mul, sub } from "./arithmetic.ts";
import {
  checkAttention,
  dropWeights,
  finite,
  grouped,
  maskedScores,
  optionalInputs,
  outputType,
  product,
  rateOf,
  scaleOf,
  sizesOf,
  softCapOf,
  ungrouped,
} from "./attention-definition.ts";
import { attentionBiasGradSamples, attentionGradSamples } from "./attention-samples.ts";
import { cast } from "./cast.ts";
import { reshape } from "./reshape.ts";
import { sum } from "./sum.ts";
import { at, expectFloating, expectShape } from "./support.ts";
import { transpose } from "./transpose.ts";
import { exp } from "./unary.ts";

/** Arguments of the kernels of attention, in the order of native/KERNELS.md. */
export const attentionInts = ({ attrs }: Node): number[] => [
  attrs["causal"] === true ? 1 : 0,
  attrs["hasStart"] === true ? 1 : 0,
  attrs["hasSegments"] === true ? 1 : 0,
  attrs["window"] as number,
  attrs["operands"] === "bfloat16" ? 1 : 0,
  attrs["hasBias"] === true ? 1 : 0,
  rateOf(attrs) > 0 ? 1 : 0,
  (attrs["stream"] as number | undefined) ?? 0,
];
export const attentionFloats = ({ attrs }: Node): number[] => [scaleOf(attrs), softCapOf(attrs), rateOf(attrs)];

/**
 * Float32 sums of the keys' gradients that attention_grad keeps apart: one per slot of query panels (kPanel and slotsOf in
 * native/kernels/attention_grad.cc). None where there is one panel.
 */
function workspaceBytes({ inputs }: Node): number {
  const { B, T, H, K, S, G } = sizesOf(at(inputs, 0, "attentionGrad"), at(inputs, 1, "attentionGrad"));
  const panels = Math.ceil((T * (H / G)) / 512);
  const slots = Math.min(panels, Math.ceil(16 / G));
  return panels <= 1 ? 0 : 2 * slots * B * S * G * K * 4;
}

function checkGrad(inputs: readonly TensorType[], attrs: Attrs, op: string): void {
  checkAttention(inputs, attrs, op, 6);
  for (const [i, name] of [
    [3, "out"],
    [5, "dout"],
  ] as const) {
    expectFloating(at(inputs, i, op), op, name);
    expectShape(at(inputs, i, op), at(inputs, 0, op).shape, op, name);
  }
}

/** The weights [B,G,R,T,S] before dropout, and the gradients of the scaled products and of the scores. */
function scoreGradients(inputs: readonly Tensor[], attrs: Attrs) {
  const [q, k, v, out, lse, dout, ...rest] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, ...Tensor[]];
  const { T, H, G, B } = sizesOf(q, k);
  const optional = optionalInputs(rest, attrs);
  const { scores, slope } = maskedScores(q, k, optional, attrs);
  const weights = exp(sub(scores, reshape(finite(lse), [B, G, H / G, T, 1])));
  const dy = grouped(cast(dout, "float32"), G);
  const delta = sum(mul(dy, grouped(cast(out, "float32"), G)), { axes: -1, keepDims: true });
  const dweights = dropWeights(product(dy, grouped(v, G), attrs, { transposeB: true }), optional, attrs);
  const dscores = mul(weights, sub(dweights, delta));
  return { weights: dropWeights(weights, optional, attrs), dy, dscores, slope };
}

/** Gradients of attention: (q, k, v, out, lse, dout, optional inputs) -> dq, dk, dv of attribute `dtype`. */
export const attentionGradOp: OpDef = defineOp({
  name: "attentionGrad",
  infer: (inputs, attrs) => {
    checkGrad(inputs, attrs, "attentionGrad");
    return inputs.slice(0, 3).map(({ shape }) => ({ shape, dtype: outputType(attrs) }));
  },
  decompose: (inputs, attrs) => {
    const [q, k] = inputs as [Tensor, Tensor];
    const { B, K, S, G } = sizesOf(q, k);
    const { weights, dy, dscores, slope } = scoreGradients(inputs, attrs);
    const dproducts = slope === undefined ? dscores : mul(dscores, slope);
    const scale = scaleOf(attrs);
    // [B,G,R,S,K] summed over the R query heads that share a key-value head.
    const shared = (x: Tensor): Tensor => reshape(transpose(sum(x, { axes: 2 }), [0, 2, 1, 3]), [B, S, G, K]);
    return [
      mul(ungrouped(product(dproducts, grouped(k, G), attrs)), scale),
      mul(shared(product(dproducts, grouped(q, G), attrs, { transposeA: true })), scale),
      shared(product(weights, dy, attrs, { transposeA: true })),
    ].map((x) => cast(x, outputType(attrs)));
  },
  gradient: (context) => vjpOfDecomposition(attentionGradOp, context),
  lower: {
    kind: "kernel",
    kernel: "attention_grad",
    ints: attentionInts,
    floats: attentionFloats,
    strided: [0, 1, 2],
    unitStride: [0, 1, 2],
    narrowInputs: [0, 1, 2, 3, 5],
    narrowOutputs: [0, 1, 2],
    workspaceBytes,
  },
  operands: [0, 1, 2, 5],
  samples: attentionGradSamples,
});

/** The same inputs -> gradient of the bias, with all queries: [B or 1, H or 1, T, S]. */
export const attentionBiasGradOp: OpDef = defineOp({
  name: "attentionBiasGrad",
  infer: (inputs, attrs) => {
    checkGrad(inputs, attrs, "attentionBiasGrad");
    const { T, S } = sizesOf(at(inputs, 0, "attentionBiasGrad"), at(inputs, 1, "attentionBiasGrad"));
    const { bias } = optionalInputs(inputs.slice(6), attrs);
    if (bias === undefined) throw new Error("attentionBiasGrad: there is no bias.");
    return [{ shape: [...bias.shape.slice(0, 2), T, S], dtype: outputType(attrs) }];
  },
  decompose: (inputs, attrs) => {
    const { B, H, T, S } = sizesOf(inputs[0] as Tensor, inputs[1] as Tensor);
    const { bias } = optionalInputs(inputs.slice(6), attrs) as { bias: Tensor };
    const { dscores } = scoreGradients(inputs, attrs);
    const axes = [0, 1].filter((axis) => bias.shape[axis] === 1);
    return [cast(sum(reshape(dscores, [B, H, T, S]), { axes, keepDims: true }), outputType(attrs))];
  },
  gradient: (context) => vjpOfDecomposition(attentionBiasGradOp, context),
  lower: { kind: "decompose" },
  samples: attentionBiasGradSamples,
});
