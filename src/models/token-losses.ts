import {
  add,
  cast,
  crossEntropy,
  linearCrossEntropy,
  mul,
  notEqual,
  reshape,
  type Tensor,
  type Tree,
  withScope,
} from "../engine/index.ts";
import type { ForwardContext, ForwardInputs, ModelConfig, ModelFamily } from "./family.ts";

/**
 * Negative log-likelihoods, in nats, of targets int32[B*T] after tokens[B,T] -> float32[B*T]; 0 where the target is
 * `ignoreIndex`. Logits are in memory a chunk at a time where the family tells its hidden states, all at once where it
 * does not; the bits are the same. While training, which a dropout key in the context says, the model's auxiliary loss is added
 * to that of every token that counts, and so to their mean.
 */
export function tokenLosses<C extends ModelConfig>(
  model: {
    readonly family: ModelFamily<C>;
    readonly config: C;
    readonly params: Tree<Tensor>;
    readonly context?: ForwardContext;
    readonly ignoreIndex: number;
  },
  inputs: ForwardInputs,
  targets: Tensor,
): Tensor {
  const { family, config, params, context, ignoreIndex } = model;
  const counting = (losses: Tensor, auxiliary: Tensor | undefined): Tensor => {
    if (auxiliary === undefined || context?.dropoutKey === undefined) return losses;
    return add(losses, mul(cast(notEqual(targets, ignoreIndex), "float32"), auxiliary));
  };
  const parts = family.hidden?.(params, inputs, config, context);
  if (parts !== undefined) {
    const { hidden, headWeight, softCap, auxiliaryLoss } = parts;
    const rows = reshape(hidden, [-1, config.hiddenSize]);
    const losses = withScope("lm_head", () => linearCrossEntropy(rows, headWeight, targets, { ignoreIndex, softCap }));
    return counting(losses, auxiliaryLoss);
  }
  const { logits, auxiliaryLoss } = family.forward(params, inputs, config, context);
  return counting(crossEntropy(reshape(logits, [-1, config.vocabSize]), targets, { ignoreIndex }), auxiliaryLoss);
}
