import { benchScaling } from "../scaling.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "step time against width, layers, context and batch, memory of attention against context; docs/scaling.svg",
  run: benchScaling,
  onlyByName: true,
};
