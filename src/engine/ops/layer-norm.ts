import { vjpOfDecomposition } from "../autodiff/vjp.ts";
import { defineOp, type OpDef, type OpSample, type SampleInput } from "../ir/op.ts";
import type { Shape } from "../ir/shape.ts";
import { apply, type Tensor } from "../ir/tensor.ts";
import { add, mul, sub } from "./arithmetic.ts";
import { toFloat32 } from "./cast.ts";
import { mean } from "./max.ts";
import { expandDims } from "./reshape.ts";
import { sum } from "./sum.ts";
import { at, expectDType, expectShape, fail, formatType } from "./support.ts";
import { rsqrt, square } from "./unary.ts";

const shapes: Record<string, Shape> = {
  normal: [4, 8],
  odd: [3, 5, 13],
  "size-1": [1, 1],
  larger: [37, 129],
  empty: [0, 8],
};
const eps = 1e-5;
const f32 = (shape: Shape, more: Partial<SampleInput> = {}): SampleInput => ({ shape, dtype: "float32", ...more });

/** y = (x - mean) * rstd * weight + bias over the last axis; also mean and rstd. attrs: {eps}. */
export const layerNormOp: OpDef = defineOp({
  name: "layerNorm",
  infer: (inputs) => {
    const x = at(inputs, 0, "layerNorm");
    if (x.shape.length === 0) fail("layerNorm", "x[..., D]", formatType(x), "reshape it");
    inputs.forEach((type, i) => {
      expectDType(type, "float32", "layerNorm", ["x", "weight", "bias"][i] as string);
    });
    expectShape(at(inputs, 1, "layerNorm"), x.shape.slice(-1), "layerNorm", "weight");
    expectShape(at(inputs, 2, "layerNorm"), x.shape.slice(-1), "layerNorm", "bias");
    const rows = { shape: x.shape.slice(0, -1), dtype: "float32" as const };
    return [x, rows, rows];
  },
  decompose: (inputs, attrs) => {
    const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor];
    const mu = mean(x, { axes: -1 });
    const centred = sub(x, expandDims(mu, -1));
    const rstd = rsqrt(add(mean(square(centred), { axes: -1 }), attrs["eps"] as number));
    return [add(mul(mul(centred, expandDims(rstd, -1)), weight), bias), mu, rstd];
  },
  gradient: (context) => {
    const { inputs, outputs, cotangents } = context;
    const [x, weight] = inputs as [Tensor, Tensor];
    const [, mu, rstd] = outputs as [Tensor, Tensor, Tensor];
    const [dy, ...others] = cotangents;
    if (dy === undefined || others.some((t) => t !== undefined)) return vjpOfDecomposition(layerNormOp, context);
    return apply(layerNormGradOp, [x, weight, mu, rstd, dy]);
  },
  lower: {
    kind: "kernel",
    kernel: "layer_norm",
    floats: (node) => [node.attrs["eps"] as number],
    narrowOutputs: [0],
    inPlace: [[0, 0]],
  },
  samples: Object.entries(shapes).map(
    ([name, shape]): OpSample => ({
      name,
      inputs: [f32(shape), f32(shape.slice(-1)), f32(shape.slice(-1))],
      // A row of one element has variance 0, so that rstd is large and eps decides.
      attrs: { eps: name === "size-1" ? 0.1 : eps },
      tolerance: 1e-4,
    }),
  ),
});

/** Gradients of {@link layerNormOp}: (x, weight, mean, rstd, dy) -> dx, dweight, dbias. */
export const layerNormGradOp: OpDef = defineOp({
  name: "layerNormGrad",
  infer: (inputs) => {
    const x = at(inputs, 0, "layerNormGrad");
    expectShape(at(inputs, 4, "layerNormGrad"), x.shape, "layerNormGrad", "dy");
    const weight = at(inputs, 1, "layerNormGrad");
    return [x, weight, weight];
  },
  decompose: (inputs) => {
    const [x, weight, mu, rstd, dy] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const scale = expandDims(rstd, -1);
    const normal = mul(sub(x, expandDims(mu, -1)), scale);
    const g = mul(dy, weight);
    const lead = x.shape.slice(0, -1).map((_, i) => i);
    const along = { axes: -1, keepDims: true };
    const dx = mul(scale, sub(sub(g, mean(g, along)), mul(normal, mean(mul(g, normal), along))));
    return [dx, sum(mul(dy, normal), { axes: lead }), sum(dy, { axes: lead })];
  },
  gradient: (context) => vjpOfDecomposition(layerNormGradOp, context),
  lower: {
    kind: "kernel",
    kernel: "layer_norm_grad",
    inPlace: [
      [0, 0],
      [0, 4],
    ],
  },
  samples: Object.entries(shapes).map(
    ([name, shape]): OpSample => ({
      name,
      inputs: [
        f32(shape),
        f32(shape.slice(-1)),
        f32(shape.slice(0, -1), { low: -0.2, high: 0.2 }),
        f32(shape.slice(0, -1), { low: 0.5, high: 1.5 }),
        f32(shape),
      ],
      tolerance: 1e-4,
    }),
  ),
});

/**
 * Layer normalisation (Ba et al. 2016) over the last axis: x[..., D], weight[D], bias[D] -> y[..., D]. Statistics and
 * result in float32.
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, options: { eps: number }): Tensor {
  return apply(layerNormOp, [x, weight, bias].map(toFloat32), { eps: options.eps })[0] as Tensor;
}
