import { raceArchitectures } from "../architecture-race.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "AdamW step and greedy generation of every architecture against transformers on PyTorch, float32",
  run: (options) => raceArchitectures("f32", options),
  onlyByName: true, // some minutes
};
