import { l2Normalize, matmul, mul, slice, type Tensor } from "../../engine/index.ts";
import { layers, type ModelConfig, type ModelFamily } from "../../models/index.ts";
import type { LossFunction } from "../types.ts";
import { classLoss, headLoss, type ObjectiveOptions } from "./head-loss.ts";

export interface ContrastiveOptions extends ObjectiveOptions {
  /** Divides the cosines; default 0.05. */
  readonly temperature?: number | undefined;
}

/**
 * Sentence embeddings that bring pairs together (InfoNCE; SimCSE, Gao et al. 2021): the rows of a batch are N texts, then N that
 * belong to them in the same order, then any number of others that do not. Each of the first has to find its own among
 * all that follow, by the cosine of the means of their tokens. `targets` int32[N] are 0..N-1. A text paired with itself differs
 * by dropout.
 */
export function contrastive<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  options: ContrastiveOptions = {},
): LossFunction {
  const { temperature = 0.05 } = options;
  return headLoss({ family, config, head: "none" }, options, ({ logits: hidden }, { targets, segments }) => {
    const embeddings = l2Normalize(layers.meanToken(hidden, { segments }));
    const [rows, D] = embeddings.shape as [number, number];
    const N = targets.shape[0] as number;
    const part = (from: number, to: number): Tensor => slice(embeddings, { starts: [from, 0], limits: [to, D] });
    const cosines = matmul(part(0, N), part(N, rows), { transposeB: true });
    return classLoss(mul(cosines, 1 / temperature), targets);
  });
}
