import { defineTask, type InfillTask } from "../task.ts";
import { infillGaps } from "./infill-gaps.ts";

/** Characters that a line must have to be worth asking for. */
const leastCharacters = 8;

/** Single lines of code taken out and asked for, as HumanEval's single-line infilling has it (Fried et al. 2022). */
export const infillLines = defineTask({
  name: "infill-lines",
  summary: "a line taken out of held-out code, filled in exactly (Bavarian et al. 2022)",
  data: "a dataset folder (its held-out documents), or a file of code",
  async load(path): Promise<InfillTask> {
    const items = await infillGaps(path, (text) =>
      [...text.matchAll(/^.*$/gm)]
        .filter(({ 0: line }) => /\w/.test(line) && line.trim().length >= leastCharacters)
        .map(({ index, 0: line }) => ({ from: index, to: index + line.length })),
    );
    return { name: "infill-lines", kind: "infill", items };
  },
});
