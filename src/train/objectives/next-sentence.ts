import { add, div, maximum, mul, type Tensor } from "../../engine/index.ts";
import type { ModelConfig, ModelFamily } from "../../models/index.ts";
import type { LossFunction } from "../types.ts";
import { classLoss, headLoss, type LossSum, type ObjectiveOptions } from "./head-loss.ts";

/** Does the second text of a pair follow the first? `targets` int32[B]: 0 it does, 1 it does not. */
export function nextSentence<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  options: ObjectiveOptions = {},
): LossFunction {
  return headLoss({ family, config, head: "next-sentence" }, options, ({ logits }, { targets }) =>
    classLoss(logits, targets),
  );
}

/**
 * The loss of BERT's pretraining (Devlin et al. 2019, A.2): the mean over masked tokens plus the mean over pairs of texts, as a
 * sum over the masked tokens. logits[B,2], follows int32[B].
 */
export function addNextSentence(masked: LossSum, logits: Tensor, follows: Tensor): LossSum {
  const { lossSum, tokenCount } = classLoss(logits, follows);
  const mean = div(lossSum, maximum(tokenCount, 1));
  return { lossSum: add(masked.lossSum, mul(mean, masked.tokenCount)), tokenCount: masked.tokenCount };
}
