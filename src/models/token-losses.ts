import { crossEntropy, linearCrossEntropy, reshape, type Tensor, type Tree, withScope } from "../engine/index.ts";
import type { ForwardContext, ForwardInputs, ModelConfig, ModelFamily } from "./family.ts";

/**
 * Negative log-likelihoods, in nats, of targets int32[B*T] after tokens[B,T] -> float32[B*T]; 0 where the target is
 * `ignoreIndex`. Logits are in memory a chunk at a time where the family tells its hidden states, all at once where it
 * does not; the bits are the same.
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
  const parts = family.hidden?.(params, inputs, config, context);
  if (parts !== undefined) {
    const { hidden, headWeight } = parts;
    const rows = reshape(hidden, [-1, config.hiddenSize]);
    return withScope("lm_head", () => linearCrossEntropy(rows, headWeight, targets, { ignoreIndex }));
  }
  const { logits } = family.forward(params, inputs, config, context);
  return crossEntropy(reshape(logits, [-1, config.vocabSize]), targets, { ignoreIndex });
}
