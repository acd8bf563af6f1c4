import { raceStep, stepShapes } from "../step-race.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "AdamW step of a GPT of 12.3M parameters, 8 x 256 tokens, bfloat16 and float32, against PyTorch",
  run: (options) => raceStep(stepShapes["gpt-12m"], options),
};
