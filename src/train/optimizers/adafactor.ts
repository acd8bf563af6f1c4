import {
  add,
  div,
  maximum,
  mean,
  minimum,
  mul,
  rsqrt,
  type Shape,
  sqrt,
  square,
  sub,
  type Tensor,
} from "../../engine/index.ts";
import { defineOptimizer } from "./optimizer.ts";

const eps1 = 2 ** -23;

/**
 * Adafactor (Shazeer & Stern 2018), as PyTorch's: the second moments of a matrix are kept as means of its rows and
 * columns only, steps are relative to the parameter's root mean square (at least `eps`) and clipped to a root mean square
 * of `clip`. State of n + m numbers for an n x m matrix.
 */
export const adafactor = defineOptimizer({
  name: "adafactor",
  defaults: { beta2Decay: -0.8, eps: 1e-3, clip: 1, weightDecay: 0 },
  create(options) {
    const { beta2Decay, eps, clip, weightDecay } = options as Record<
      "beta2Decay" | "eps" | "clip" | "weightDecay",
      number
    >;
    return {
      slots({ shape }): Readonly<Record<string, Shape>> {
        if (shape.length < 2) return { variance: shape };
        return { rows: [...shape.slice(0, -1), 1], columns: [...shape.slice(0, -2), 1, shape.at(-1) as number] };
      },
      scalars: (step) => ({ forget: step ** beta2Decay, largestStep: 1 / Math.sqrt(step) }),
      update({ parameter, param, grad, gradScale, slots, lr, scalars }) {
        const { forget, largestStep } = scalars as Record<"forget" | "largestStep", Tensor>;
        const g = mul(grad, gradScale);
        const towards = (old: Tensor, now: Tensor): Tensor => add(old, mul(forget, sub(now, old)));
        const newSlots: Record<string, Tensor> = {};
        let variance: Tensor;
        if (param.rank < 2) {
          variance = towards(slots.variance as Tensor, square(g));
          newSlots.variance = variance;
        } else {
          const rows = towards(slots.rows as Tensor, mean(square(g), { axes: [-1], keepDims: true }));
          const columns = towards(slots.columns as Tensor, mean(square(g), { axes: [-2], keepDims: true }));
          Object.assign(newSlots, { rows, columns });
          variance = mul(div(rows, maximum(mean(rows, { axes: [-2], keepDims: true }), eps1)), columns);
        }
        const update = mul(rsqrt(maximum(variance, eps1 * eps1)), g);
        const relative = mul(maximum(rootMeanSquare(param), eps), minimum(lr, largestStep));
        const step = div(relative, maximum(div(rootMeanSquare(update), clip), 1));
        const decayed = parameter.decay && weightDecay !== 0 ? sub(param, mul(mul(lr, weightDecay), param)) : param;
        return { param: sub(decayed, mul(step, update)), slots: newSlots };
      },
    };
  },
});

function rootMeanSquare(x: Tensor): Tensor {
  return sqrt(mean(square(x)));
}
