import { add, div, matmul, maximum, mul, sqrt, square, sub, sum, type Tensor, transpose } from "../../engine/index.ts";
import { createAdamw } from "./adamw.ts";
import { defineOptimizer } from "./optimizer.ts";

/** Coefficients of the quintic iteration (Jordan et al. 2024): steepest at zero. */
const [a, b, c] = [3.4445, -4.775, 2.0315];

/**
 * Muon (Jordan et al. 2024): momentum whose matrices are made near orthogonal by Newton-Schulz iterations; for the
 * matrices inside the network, while AdamW updates everything else at the same learning rate. Steps are scaled by
 * 0.2 sqrt(longer side) to the size of AdamW's (Liu et al. 2025), so AdamW's learning rates and decay serve. As PyTorch's
 * Muon with `adjust_lr_fn="match_rms_adamw"`. The products follow the run's precision.
 */
export const muon = defineOptimizer({
  name: "muon",
  defaults: { momentum: 0.95, nesterov: 1, iterations: 5, weightDecay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8 },
  create(options) {
    const { momentum, nesterov, iterations, weightDecay } = options as Record<
      "momentum" | "nesterov" | "iterations" | "weightDecay",
      number
    >;
    const { beta1, beta2, eps } = options as Record<"beta1" | "beta2" | "eps", number>;
    const adamw = createAdamw({ beta1, beta2, eps, weightDecay });
    return {
      slots: (parameter) => (parameter.hidden ? { momentum: parameter.shape } : adamw.slots(parameter)),
      scalars: (step) => adamw.scalars(step),
      update(context) {
        const { parameter, param, grad, gradScale, slots, lr } = context;
        if (!parameter.hidden) return adamw.update(context);
        const g = mul(grad, gradScale);
        const old = slots.momentum as Tensor;
        const buffer = add(old, mul(1 - momentum, sub(g, old)));
        const direction = nesterov === 0 ? buffer : add(g, mul(momentum, sub(buffer, g)));
        const size = 0.2 * Math.sqrt(Math.max(...parameter.shape));
        const decayed = parameter.decay ? sub(param, mul(mul(lr, weightDecay), param)) : param;
        const step = mul(mul(lr, size), orthogonalised(direction, iterations));
        return { param: sub(decayed, step), slots: { momentum: buffer } };
      },
    };
  },
});

/** A matrix of nearly the same row and column spaces whose singular values are near 1. */
function orthogonalised(x: Tensor, iterations: number): Tensor {
  const [rows, columns] = x.shape as [number, number];
  const isTall = rows > columns;
  // The shorter side first: the products between are smaller.
  const flip = (t: Tensor): Tensor => (isTall ? transpose(t, [1, 0]) : t);
  let y = flip(div(x, maximum(sqrt(sum(square(x))), 1e-7)));
  for (let i = 0; i < iterations; i++) {
    const gram = matmul(y, y, { transposeB: true });
    y = add(mul(a, y), matmul(add(mul(b, gram), mul(c, matmul(gram, gram))), y));
  }
  return flip(y);
}
