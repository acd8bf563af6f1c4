import { adamw as adamwOp, type Tensor } from "../../engine/index.ts";
import { defineOptimizer, type Optimizer } from "./optimizer.ts";

/**
 * Adam with decoupled weight decay, one fused in-place pass over param, m and v (formula in native/KERNELS.md).
 * Defaults are PyTorch's except beta2 0.95 and weight decay 0.1, which language models use (GPT-3, Llama).
 * Source: Loshchilov & Hutter 2019.
 */
export const adamw = defineOptimizer({
  name: "adamw",
  defaults: { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 },
  create: (options) => createAdamw(options as unknown as AdamwSettings),
});

export interface AdamwSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
}

export function createAdamw({ beta1, beta2, eps, weightDecay }: AdamwSettings): Optimizer {
  return {
    slots: ({ shape }) => ({ m: shape, v: shape }),
    scalars: (step) => ({ biasCorrection1: 1 - beta1 ** step, biasCorrection2: 1 - beta2 ** step }),
    update({ parameter, param, grad, gradScale, slots, lr, scalars }) {
      const { m, v } = slots as Record<"m" | "v", Tensor>;
      const { biasCorrection1, biasCorrection2 } = scalars as Record<"biasCorrection1" | "biasCorrection2", Tensor>;
      const updated = adamwOp(
        { param, grad, m, v, lr, gradScale, biasCorrection1, biasCorrection2 },
        { beta1, beta2, eps, weightDecay: parameter.decay ? weightDecay : 0 },
      );
      return { param: updated.param, slots: { m: updated.m, v: updated.v } };
    },
  };
}
