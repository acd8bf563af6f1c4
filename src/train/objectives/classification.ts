import {
  cast,
  max,
  mean,
  mul,
  notEqual,
  reshape,
  scalar,
  softplus,
  square,
  sub,
  sum,
  type Tensor,
} from "../../engine/index.ts";
import { headOf, type ModelConfig, type ModelFamily } from "../../models/index.ts";
import type { LossFunction } from "../types.ts";
import { classLoss, headLoss, type LabelledArrays, type LossSum, type ObjectiveOptions } from "./head-loss.ts";

/**
 * What a text is (Devlin et al. 2019, 4.1): cross-entropy of one label out of many, `targets` int32[B]; or, as config.json says,
 * binary cross-entropy of each label by itself (`targets` float32[B,labels], 0 or 1) or squared error of values (the same
 * shape), both averaged over the labels.
 */
export function sequenceClassification<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  options: ObjectiveOptions = {},
): LossFunction {
  const { problem } = headOf(config);
  return headLoss({ family, config, head: "sequence-classification" }, options, ({ logits }, batch) => {
    const { targets } = batch;
    if (problem === "single_label_classification") return classLoss(logits, targets);
    if (problem === "regression") return rowLoss(square(sub(logits, targets)), batch);
    return rowLoss(sub(softplus(logits), mul(logits, targets)), batch);
  });
}

/** losses[B,labels], averaged over the labels, of the rows that hold a text. */
function rowLoss(losses: Tensor, { segments }: LabelledArrays): LossSum {
  const perRow = mean(losses, { axes: [1] });
  if (segments === undefined) return { lossSum: sum(perRow), tokenCount: scalar(perRow.shape[0] as number) };
  const isText = max(cast(notEqual(segments, 0), "float32"), { axes: [1] });
  return { lossSum: sum(mul(perRow, isText)), tokenCount: sum(isText) };
}

/** What every token is, as in named entities: cross-entropy over the tokens that have a label, `targets` int32[B,T]. */
export function tokenClassification<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  options: ObjectiveOptions = {},
): LossFunction {
  return headLoss({ family, config, head: "token-classification" }, options, ({ logits }, { targets }) =>
    classLoss(reshape(logits, [-1, headOf(config).labels.length]), reshape(targets, [-1])),
  );
}
