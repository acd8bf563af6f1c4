import { defineOp, type OpDef, type OpSample } from "../ir/op.ts";
import type { Shape } from "../ir/shape.ts";
import { apply, type Tensor } from "../ir/tensor.ts";
import { add, div, mul, sub } from "./arithmetic.ts";
import { toFloat32 } from "./cast.ts";
import { type TensorLike, toTensor } from "./source.ts";
import { at, expectDType, expectShape } from "./support.ts";
import { sqrt, square } from "./unary.ts";

const names = ["param", "grad", "m", "v", "lr", "gradScale", "biasCorrection1", "biasCorrection2"] as const;

/** (param, grad, m, v, lr, gradScale, biasCorrection1, biasCorrection2) -> param, m, v. attrs: {beta1, beta2, eps, weightDecay}. */
export const adamwOp: OpDef = defineOp({
  name: "adamw",
  infer: (inputs) => {
    const param = at(inputs, 0, "adamw");
    names.forEach((name, i) => {
      const type = at(inputs, i, "adamw");
      expectDType(type, "float32", "adamw", name);
      expectShape(type, i < 4 ? param.shape : [], "adamw", name);
    });
    return [param, param, param];
  },
  decompose: (inputs, attrs) => {
    const [param, grad, m, v, lr, gradScale, correction1, correction2] = inputs as [Tensor, ...Tensor[]] & Tensor[];
    const { beta1, beta2, eps, weightDecay } = attrs as Record<string, number> & AdamwOptions;
    const g = mul(grad as Tensor, gradScale as Tensor);
    const decayed = sub(param as Tensor, mul(mul(lr as Tensor, weightDecay), param as Tensor));
    const m1 = add(mul(beta1, m as Tensor), mul(1 - beta1, g));
    const v1 = add(mul(beta2, v as Tensor), mul(1 - beta2, square(g)));
    const denominator = add(div(sqrt(v1), sqrt(correction2 as Tensor)), eps);
    const step = div(mul(div(lr as Tensor, correction1 as Tensor), m1), denominator);
    return [sub(decayed, step), m1, v1];
  },
  gradient: { noGradient: "it is an optimiser's update, made after differentiation" },
  lower: {
    kind: "kernel",
    kernel: "adamw",
    floats: ({ attrs }) => ["beta1", "beta2", "eps", "weightDecay"].map((name) => attrs[name] as number),
    inPlace: [
      [0, 0],
      [1, 2],
      [2, 3],
    ],
  },
  samples: Object.entries({ normal: [4, 8], odd: [7, 13], empty: [0], "size-1": [1], larger: [37, 129] }).map(
    ([name, shape]): OpSample => ({
      name,
      inputs: [
        ...tensors(shape),
        ...[0.01, 0.5, 0.271, 0.0975].map((x) => ({ shape: [], dtype: "float32" as const, values: [x] })),
      ],
      attrs: { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 },
    }),
  ),
});

function tensors(shape: Shape): OpSample["inputs"] {
  const like = { shape, dtype: "float32" as const };
  return [like, like, like, { ...like, low: 0.01, high: 2 }];
}

/** What varies from step to step, by name. Scalars are float32[] or numbers. */
export interface AdamwInputs {
  readonly param: Tensor;
  readonly grad: Tensor;
  /** Running means of the gradient and of its square. */
  readonly m: Tensor;
  readonly v: Tensor;
  readonly lr: TensorLike;
  /** Factor on the gradient (clipping, 1/tokens). */
  readonly gradScale: TensorLike;
  /** 1 - beta1^t and 1 - beta2^t at step t (from 1). */
  readonly biasCorrection1: TensorLike;
  readonly biasCorrection2: TensorLike;
}

export interface AdamwOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
}

/** One step of AdamW (Loshchilov & Hutter 2019), as PyTorch computes it; param, m and v may be updated in place. */
export function adamw(inputs: AdamwInputs, options: AdamwOptions): { param: Tensor; m: Tensor; v: Tensor } {
  const operands = names.map((name) => toFloat32(toTensor(inputs[name])));
  const { beta1, beta2, eps, weightDecay } = options;
  const [param, m, v] = apply(adamwOp, operands, { beta1, beta2, eps, weightDecay }) as [Tensor, Tensor, Tensor];
  return { param, m, v };
}
