import { PlinthError } from "../../base/index.ts";
import { ignoreIndex } from "../../data/index.ts";
import { cast, crossEntropy, notEqual, sum, type Tensor } from "../../engine/index.ts";
import { type ForwardOutputs, type HeadKind, headOf, type ModelConfig, type ModelFamily } from "../../models/index.ts";
import type { LossFunction } from "../types.ts";
import { type Assemble, assemblePlain } from "./assemble.ts";

export interface ObjectiveOptions {
  readonly assemble?: Assemble | undefined;
  /** Activation checkpointing: keep only the inputs of the model's blocks, compute the rest again. */
  readonly remat?: boolean | undefined;
}

/** The arrays of a batch of labelled texts, in the program. */
export type LabelledArrays = { readonly tokens: Tensor; readonly targets: Tensor } & Readonly<
  Partial<Record<"positions" | "segments" | "tokenTypes" | "nextSentence", Tensor>>
>;

/** The summed loss and how many things were predicted, both scalars. */
export type LossSum = ReturnType<LossFunction>;

/**
 * A loss of what a model's head says of a batch. Reads `tokens`, `targets` and, where the batch has them, `positions`, `segments`
 * (0 is padding) and `tokenTypes`. Throws PlinthError when the model has another head than the objective is for.
 */
export function headLoss<C extends ModelConfig>(
  model: { readonly family: ModelFamily<C>; readonly config: C; readonly head: HeadKind },
  { assemble = assemblePlain, remat }: ObjectiveOptions,
  measure: (outputs: ForwardOutputs, batch: LabelledArrays) => LossSum,
): LossFunction {
  const { family, config, head } = model;
  const { kind } = headOf(config);
  if (kind !== head) {
    throw new PlinthError(
      `${head}: the model has the head "${kind}"`,
      `load it with the head "${head}", or choose the objective of its own`,
    );
  }
  return (trainable, frozen, batch, key) => {
    const arrays = batch as unknown as LabelledArrays;
    const { tokens, positions, segments, tokenTypes } = arrays;
    const params = assemble(trainable, frozen, key);
    const inputs = { tokens, positions, segments, tokenTypes };
    return measure(family.forward(params, inputs, config, { dropoutKey: key, remat }), arrays);
  };
}

/** Summed cross-entropy of logits[N,C] against classes int32[N], in nats, over those that are not ignored. */
export function classLoss(logits: Tensor, targets: Tensor): LossSum {
  return {
    lossSum: sum(crossEntropy(logits, targets, { ignoreIndex })),
    tokenCount: sum(cast(notEqual(targets, ignoreIndex), "float32")),
  };
}
