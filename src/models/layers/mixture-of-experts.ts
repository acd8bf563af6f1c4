import {
  add,
  div,
  mul,
  oneHot,
  scatterAlong,
  slice,
  softmax,
  sum,
  type Tensor,
  topK,
  zeros,
} from "../../engine/index.ts";
import { linear } from "./linear.ts";
import { inModule, type Module, moduleAt } from "./module.ts";

export interface MixtureOptions {
  readonly numExperts: number;
  /** Experts that each token is given to. */
  readonly numChosen: number;
  /** What one expert computes, x[B,T,D] -> [B,T,D]; `p` is the subtree `experts.<i>`. */
  readonly expert: (x: Tensor, p: Module) => Tensor;
}

export interface Mixture {
  readonly y: Tensor;
  /** [E]: how many of the tokens each expert was given. */
  readonly counts: Tensor;
  /** [E]: the router's probability of each expert, summed over the tokens. */
  readonly probabilities: Tensor;
}

/**
 * A sparse mixture of experts (Shazeer et al. 2017; as Jiang et al. 2024 have it): the router `gate` scores the experts,
 * x[B,T,D] -> [B,T,E], each token goes to those with the highest probabilities, and what they make of it is added up with these
 * as weights, scaled to sum to 1. Every expert runs on every token here and what was not asked for is weighted with 0: exact, and
 * a token's result depends on no other's, but the cost of E / numChosen times the products that are needed.
 */
export function mixtureOfExperts(x: Tensor, p: Module, { numExperts, numChosen, expert }: MixtureOptions): Mixture {
  const [B, T] = x.shape as [number, number];
  const probabilities = softmax(linear(x, moduleAt(p, "gate")));
  const { values, indices } = topK(probabilities, numChosen);
  const shares = div(values, sum(values, { axes: -1, keepDims: true }));
  const weights = scatterAlong(zeros([B, T, numExperts]), indices, shares, { axis: 2, mode: "add" });
  const parts = Array.from({ length: numExperts }, (_, e) => {
    const weight = slice(weights, { starts: [0, 0, e], limits: [B, T, e + 1] });
    return mul(
      weight,
      inModule(p, `experts.${e}`, (p) => expert(x, p)),
    );
  });
  return {
    y: parts.reduce((a, b) => add(a, b)),
    counts: sum(oneHot(indices, numExperts), { axes: [0, 1, 2] }),
    probabilities: sum(probabilities, { axes: [0, 1] }),
  };
}

/**
 * The loss that keeps experts evenly used (Fedus et al. 2021, equations 4 to 6), over all layers at once: numExperts times the sum over
 * experts of their share of the tokens and their mean probability. numChosen where they are even. `tokens`: in each layer.
 */
export function balanceLoss(
  layers: readonly Pick<Mixture, "counts" | "probabilities">[],
  { numExperts, tokens }: { numExperts: number; tokens: number },
): Tensor {
  const total = (key: "counts" | "probabilities"): Tensor =>
    layers.map((layer) => layer[key]).reduce((a, b) => add(a, b));
  const rows = layers.length * tokens;
  return mul(sum(mul(div(total("counts"), rows), div(total("probabilities"), rows))), numExperts);
}
