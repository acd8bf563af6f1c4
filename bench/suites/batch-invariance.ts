import { benchBatchInvariance } from "../batch-invariance.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "what the same bits for any batch cost: products in the fixed order against sums split among threads",
  run: benchBatchInvariance,
};
