import { raceStep, stepShapes } from "../step-race.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "AdamW step of GPT-2 124M, 2 x 512 tokens, bfloat16 and float32, against PyTorch",
  run: (options) => raceStep(stepShapes["gpt2-124m"], options),
};
