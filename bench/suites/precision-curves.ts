import { benchPrecisionCurves } from "../precision-curves.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "held-out loss of bfloat16 and float32 runs of one recipe, three seeds each; docs/precision.svg",
  run: benchPrecisionCurves,
  onlyByName: true,
};
