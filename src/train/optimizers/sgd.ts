import { add, mul, sub, type Tensor } from "../../engine/index.ts";
import { defineOptimizer } from "./optimizer.ts";

/**
 * Stochastic gradient descent with momentum, as PyTorch's SGD: weight decay is part of the gradient, and the momentum
 * buffer starts as the first gradient. `nesterov` 1 looks ahead (Sutskever et al. 2013), 0 does not. One fused
 * in-place pass; without momentum no state.
 */
export const sgd = defineOptimizer({
  name: "sgd",
  defaults: { momentum: 0.9, nesterov: 0, weightDecay: 0 },
  create(options) {
    const { momentum, nesterov, weightDecay } = options as Record<"momentum" | "nesterov" | "weightDecay", number>;
    return {
      slots: ({ shape }): Readonly<Record<string, typeof shape>> => (momentum === 0 ? {} : { momentum: shape }),
      scalars: () => ({}),
      update({ parameter, param, grad, gradScale, slots, lr }) {
        const scaled = mul(grad, gradScale);
        const g = parameter.decay && weightDecay !== 0 ? add(scaled, mul(weightDecay, param)) : scaled;
        if (momentum === 0) return { param: sub(param, mul(lr, g)), slots: {} };
        const buffer = add(mul(momentum, slots.momentum as Tensor), g);
        const direction = nesterov === 0 ? buffer : add(g, mul(momentum, buffer));
        return { param: sub(param, mul(lr, direction)), slots: { momentum: buffer } };
      },
    };
  },
});
