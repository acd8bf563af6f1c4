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
const f32 = (shape: Shape, more: Partial<SampleInput> = {}): SampleInput => ({ shape, dtype: "float32", ...more });

/** y = x * rstd * weight with rstd = 1/sqrt(mean(x^2) + eps) over the last axis; also rstd. attrs: {eps}. */
export const rmsNormOp: OpDef = defineOp({
  name: "rmsNorm",
  infer: (inputs) => {
    const x = at(inputs, 0, "rmsNorm");
    if (x.shape.length === 0) fail("rmsNorm", "x[..., D]", formatType(x), "reshape it");
    inputs.forEach((type, i) => {
      expectDType(type, "float32", "rmsNorm", ["x", "weight"][i] as string);
    });
    expectShape(at(inputs, 1, "rmsNorm"), x.shape.slice(-1), "rmsNorm", "weight");
    return [x, { shape: x.shape.slice(0, -1), dtype: "float32" }];
  },
  decompose: (inputs, attrs) => {
    const [x, weight] = inputs as [Tensor, Tensor];
    const rstd = rsqrt(add(mean(square(x), { axes: -1 }), attrs["eps"] as number));
    return [mul(mul(x, expandDims(rstd, -1)), weight), rstd];
  },
  gradient: (context) => {
    const { inputs, outputs, cotangents } = context;
    const [dy, drstd] = cotangents;
    if (dy === undefined || drstd !== undefined) return vjpOfDecomposition(rmsNormOp, context);
    return apply(rmsNormGradOp, [inputs[0] as Tensor, inputs[1] as Tensor, outputs[1] as Tensor, dy]);
  },
  lower: {
    kind: "kernel",
    kernel: "rms_norm",
    floats: (node) => [node.attrs["eps"] as number],
    narrowOutputs: [0],
    inPlace: [[0, 0]],
  },
  samples: Object.entries(shapes).map(
    ([name, shape]): OpSample => ({
      name,
      inputs: [f32(shape), f32(shape.slice(-1))],
      attrs: { eps: 1e-5 },
      tolerance: 1e-4,
    }),
  ),
});

/** Gradients of {@link rmsNormOp}: (x, weight, rstd, dy) -> dx, dweight. */
export const rmsNormGradOp: OpDef = defineOp({
  name: "rmsNormGrad",
  infer: (inputs) => {
    const x = at(inputs, 0, "rmsNormGrad");
    expectShape(at(inputs, 3, "rmsNormGrad"), x.shape, "rmsNormGrad", "dy");
    return [x, at(inputs, 1, "rmsNormGrad")];
  },
  decompose: (inputs) => {
    const [x, weight, rstd, dy] = inputs as [Tensor, Tensor, Tensor, Tensor];
    const scale = expandDims(rstd, -1);
    const normal = mul(x, scale);
    const g = mul(dy, weight);
    const dx = mul(scale, sub(g, mul(normal, mean(mul(g, normal), { axes: -1, keepDims: true }))));
    return [dx, sum(mul(dy, normal), { axes: x.shape.slice(0, -1).map((_, i) => i) })];
  },
  gradient: (context) => vjpOfDecomposition(rmsNormGradOp, context),
  lower: {
    kind: "kernel",
    kernel: "rms_norm_grad",
    inPlace: [
      [0, 0],
      [0, 3],
    ],
  },
  samples: Object.entries(shapes).map(
    ([name, shape]): OpSample => ({
      name,
      inputs: [f32(shape), f32(shape.slice(-1)), f32(shape.slice(0, -1), { low: 0.5, high: 1.5 }), f32(shape)],
      tolerance: 1e-4,
    }),
  ),
});

/**
 * Root-mean-square normalisation (Zhang & Sennrich 2019) over the last axis: x[..., D], weight[D] -> y[..., D].
 * Statistics and result in float32.
 */
export function rmsNorm(x: Tensor, weight: Tensor, options: { eps: number }): Tensor {
  return apply(rmsNormOp, [toFloat32(x), toFloat32(weight)], { eps: options.eps })[0] as Tensor;
}
