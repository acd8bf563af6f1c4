import { raceArchitectures } from "../architecture-race.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "AdamW step and greedy generation of every architecture against transformers on PyTorch, bfloat16",
  run: (options) => raceArchitectures("bf16", options),
  onlyByName: true, // some minutes
};
