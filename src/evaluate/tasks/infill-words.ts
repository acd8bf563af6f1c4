import { defineTask, type InfillTask } from "../task.ts";
import { infillGaps } from "./infill-gaps.ts";

/**
 * Single words of code (names and keywords) taken out and asked for: infilling of short spans, which models can do that are
 * too small for whole lines. The first word that the model writes is its answer.
 */
export const infillWords = defineTask({
  name: "infill-words",
  summary: "a word taken out of held-out code, filled in exactly",
  data: "a dataset folder (its held-out documents), or a file of code",
  async load(path): Promise<InfillTask> {
    // a space before the word goes with it, as tokenizers have it
    const items = await infillGaps(path, (text) =>
      [...text.matchAll(/(?: |(?<![\w$]))[A-Za-z_$][\w$]{2,}/g)].map(({ index, 0: word }) => ({
        from: index,
        to: index + word.length,
      })),
    );
    return { name: "infill-words", kind: "infill", items, extract: /^\s*[\w$]+/ };
  },
});
