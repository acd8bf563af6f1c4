import {
  add,
  argsort,
  cast,
  div,
  expandDims,
  floor,
  gather,
  groupedMatmul,
  mul,
  oneHot,
  reshape,
  scatterAlong,
  slice,
  softmax,
  sum,
  type Tensor,
  topK,
  zeros,
} from "../../engine/index.ts";
import { linear } from "./linear.ts";
import { inModule, type Module, moduleAt, plainWeight } from "./module.ts";

export interface MixtureOptions {
  readonly numExperts: number;
  /** Experts that each token is given to. */
  readonly numChosen: number;
  /** What one expert computes, x[...,D] -> [...,D]; `product` is its linear layer of a name: `experts.<i>.<name>`. */
  readonly expert: (x: Tensor, product: (x: Tensor, name: string) => Tensor) => Tensor;
}

export interface Mixture {
  readonly y: Tensor;
  /** [E]: how many of the tokens each expert was given. */
  readonly counts: Tensor;
  /** [E]: the router's probability of each expert, summed over the tokens. */
  readonly probabilities: Tensor;
}

/** Which experts each token goes to, [B,T,numChosen], and how much of each it takes: shares that sum to 1. */
interface Choice {
  readonly indices: Tensor;
  readonly shares: Tensor;
  /** [E] */
  readonly counts: Tensor;
}

/**
 * A sparse mixture of experts (Shazeer et al. 2017; as Jiang et al. 2024 have it): the router `gate` scores the experts,
 * x[B,T,D] -> [B,T,E], each token goes to those with the highest probabilities, and what they make of it is added up with
 * these as weights, scaled to sum to 1. No expert has a capacity: what a token becomes depends on no other token.
 */
export function mixtureOfExperts(x: Tensor, p: Module, options: MixtureOptions): Mixture {
  const { numExperts, numChosen } = options;
  const probabilities = softmax(linear(x, moduleAt(p, "gate")));
  const { values, indices } = topK(probabilities, numChosen);
  const shares = div(values, sum(values, { axes: -1, keepDims: true }));
  const counts = sum(oneHot(indices, numExperts), { axes: [0, 1, 2] });
  const choice = { indices, shares, counts };
  const weights = plainWeights(p, numExperts);
  const y = weights === undefined ? everyExpert(x, p, choice, options) : chosenExperts(x, weights, choice, options);
  return { y, counts, probabilities: sum(probabilities, { axes: [0, 1] }) };
}

/** The weights of all experts by the name of the layer; undefined where a layer is more than a product with its weight. */
function plainWeights(p: Module, numExperts: number): Record<string, Tensor[]> | undefined {
  const out: Record<string, Tensor[]> = {};
  for (const name of Object.keys(moduleAt(p, "experts.0"))) {
    const weights = Array.from({ length: numExperts }, (_, e) => plainWeight(moduleAt(p, `experts.${e}.${name}`)));
    if (weights.includes(undefined)) return undefined;
    out[name] = weights as Tensor[];
  }
  return out;
}

/** Tokens sorted by expert, once for each that they go to, so that an expert's lie together and are one product. */
function chosenExperts(x: Tensor, weights: Record<string, Tensor[]>, choice: Choice, options: MixtureOptions): Tensor {
  const [B, T, D] = x.shape as [number, number, number];
  const { numChosen, expert } = options;
  const order = argsort(cast(reshape(choice.indices, [-1]), "float32"));
  const place = argsort(cast(order, "float32"));
  // The half keeps the quotient of a multiple from being rounded to less.
  const token = cast(floor(div(add(cast(order, "float32"), 0.5), numChosen)), "int32");
  const sizes = cast(choice.counts, "int32");
  const given = gather(reshape(x, [B * T, D]), token);
  const made = expert(given, (x, name) => groupedMatmul(x, sizes, weights[name] as Tensor[], { transposeB: true }));
  const parts = reshape(gather(made, place), [B, T, numChosen, D]);
  return sum(mul(parts, expandDims(choice.shares, 3)), { axes: 2 });
}

/**
 * With adapters or packed weights every expert runs on every token, and what was not asked for is weighted with 0: the same,
 * at numExperts / numChosen times the products.
 */
function everyExpert(x: Tensor, p: Module, { indices, shares }: Choice, options: MixtureOptions): Tensor {
  const { numExperts, expert } = options;
  const [B, T] = x.shape as [number, number];
  const weights = scatterAlong(zeros([B, T, numExperts]), indices, shares, { axis: 2, mode: "add" });
  const parts = Array.from({ length: numExperts }, (_, e) => {
    const weight = slice(weights, { starts: [0, 0, e], limits: [B, T, e + 1] });
    const made = inModule(p, `experts.${e}`, (p) => expert(x, (x, name) => linear(x, moduleAt(p, name))));
    return mul(weight, made);
  });
  return parts.reduce((a, b) => add(a, b));
}

/**
 * The loss that keeps experts evenly used (Fedus et al. 2021, equations 4 to 6), over all layers at once: numExperts times the
 * sum over experts of their share of the tokens and their mean probability. numChosen where they are even. `tokens`: in
 * each layer.
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
