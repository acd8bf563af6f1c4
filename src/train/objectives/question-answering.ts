import { ignoreIndex } from "../../data/index.ts";
import {
  add,
  cast,
  crossEntropy,
  mul,
  notEqual,
  reshape,
  select,
  slice,
  sum,
  type Tensor,
} from "../../engine/index.ts";
import type { ModelConfig, ModelFamily } from "../../models/index.ts";
import type { LossFunction } from "../types.ts";
import { headLoss, type ObjectiveOptions } from "./head-loss.ts";

/**
 * Where in a row the answer begins and ends (Devlin et al. 2019, 4.2): the mean of two cross-entropies over the places of the row,
 * `targets` int32[B,2]. Padding (segment 0) is no place; a question without an answer has the place 0, the first token.
 */
export function questionAnswering<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  options: ObjectiveOptions = {},
): LossFunction {
  return headLoss({ family, config, head: "question-answering" }, options, ({ logits }, { targets, segments }) => {
    const side = (at: 0 | 1): Tensor => {
      const scores = reshape(column(logits, at, 2), logits.shape.slice(0, 2));
      const places = segments === undefined ? scores : select(notEqual(segments, 0), scores, -1e9);
      return crossEntropy(places, reshape(column(targets, at, 1), [-1]), { ignoreIndex });
    };
    const starts = reshape(column(targets, 0, 1), [-1]);
    return {
      lossSum: sum(mul(add(side(0), side(1)), 0.5)),
      tokenCount: sum(cast(notEqual(starts, ignoreIndex), "float32")),
    };
  });
}

/** One column of the axis. */
function column(x: Tensor, at: number, axis: number): Tensor {
  const starts = x.shape.map((_, i) => (i === axis ? at : 0));
  return slice(x, { starts, limits: x.shape.map((n, i) => (i === axis ? at + 1 : n)) });
}
