import { cast, crossEntropy, notEqual, reshape, sum, type Tensor, type Tree, unflatten } from "../../engine/index.ts";
import type { ModelConfig, ModelFamily } from "../../models/index.ts";
import type { LossFunction, TrainBatch } from "../types.ts";

/** Targets with this id do not count: padding, and what is not to be learned (the user's side of a conversation). */
export const ignoreIndex = -100;

/** Builds the model's parameter tree from what trains and what does not; adapters bring their own. */
export type Assemble = (
  trainable: Readonly<Record<string, Tensor>>,
  frozen: Readonly<Record<string, Tensor>>,
  key: Tensor | undefined,
) => Tree<Tensor>;

/** The parameters as they are, trainable and frozen side by side. */
export const assemblePlain: Assemble = (trainable, frozen) =>
  unflatten([...Object.entries(frozen), ...Object.entries(trainable)]);

/**
 * Next-token prediction for any decoder: the summed cross-entropy of logits[B,T,V] against targets[B,T] in nats
 * (float32 sums), over the targets that are not {@link ignoreIndex}. Reads `tokens`, `targets` and, where the batch
 * has them, `positions` and `segments` (documents packed side by side do not see each other).
 */
export function causalLm<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  assemble: Assemble = assemblePlain,
): LossFunction {
  return (trainable, frozen, batch, key) => {
    const { tokens, targets, positions, segments } = batch as Record<"tokens" | "targets", Tensor> &
      Partial<Record<"positions" | "segments", Tensor>>;
    const params = assemble(trainable, frozen, key);
    const { logits } = family.forward(params, { tokens, positions, segments }, config, { dropoutKey: key });
    const [B, T, V] = logits.shape as [number, number, number];
    const flat = reshape(targets, [B * T]);
    const losses = crossEntropy(reshape(logits, [B * T, V]), flat, { ignoreIndex });
    return { lossSum: sum(losses), tokenCount: sum(cast(notEqual(flat, ignoreIndex), "float32")) };
  };
}

/** A batch of token ids as data pipelines make them, ready for {@link causalLm}. */
export interface TokenBatch extends Omit<TrainBatch, "arrays"> {
  readonly tokens: TrainBatch["arrays"][string];
  readonly targets: TrainBatch["arrays"][string];
  readonly positions: TrainBatch["arrays"][string];
  readonly segments: TrainBatch["arrays"][string];
}

/**
 * Names the arrays of a token batch. `segmented: false` leaves out positions and segments, for data where each row is
 * one stretch of one document: attention then skips the comparison of document ids.
 */
export function causalLmBatch(
  batch: TokenBatch,
  { segmented = true }: { readonly segmented?: boolean } = {},
): TrainBatch {
  const { tokens, targets, positions, segments, tokenCount, byteCount } = batch;
  return { arrays: segmented ? { tokens, targets, positions, segments } : { tokens, targets }, tokenCount, byteCount };
}
