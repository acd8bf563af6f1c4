import { stat } from "node:fs/promises";
import { join } from "node:path";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { parseTsv, readText } from "../read.ts";
import { type ChoiceItem, type ChoiceTask, defineTask } from "../task.ts";

const choices = ["negative", "positive"];

/**
 * SST-2: is a sentence of a film review positive or negative (Socher et al. 2013)? Prompt and split (dev; examples from
 * train) as in lm-evaluation-harness.
 */
export const sst2 = defineTask({
  name: "sst2",
  summary: "sentiment of film reviews (Socher et al. 2013), best with --shots",
  data: "the folder with dev.tsv and train.tsv (sentence, tab, 0 or 1), or one such file",
  async load(path): Promise<ChoiceTask> {
    const kind = await stat(path).catch((error: unknown) => {
      throw explainReadError(error, path);
    });
    if (!kind.isDirectory()) return { name: "sst2", kind: "choice", items: await readItems(path, "item") };
    return {
      name: "sst2",
      kind: "choice",
      items: await readItems(join(path, "dev.tsv"), "dev"),
      examples: await readItems(join(path, "train.tsv"), "train"),
    };
  },
});

async function readItems(path: string, split: string): Promise<ChoiceItem[]> {
  return parseTsv(await readText(path), path, 2).map(({ value: [sentence, label], where }, i) => {
    const answer = ["0", "1"].indexOf(label as string);
    if (answer < 0) throw new PlinthError(`${where}: expected the label 0 or 1, got "${label}"`, "correct the line");
    const prompt = `${sentence}\nQuestion: Is this sentence positive or negative?\nAnswer:`;
    return { id: `${split}-${i + 1}`, prompt, choices, answer, text: sentence as string };
  });
}
