import { raceStep, stepShapes } from "../step-race.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "AdamW step of BERT 110M, 2 x 512 tokens, bfloat16 and float32, against transformers on PyTorch",
  run: (options) => raceStep(stepShapes["bert-110m"], options),
};
