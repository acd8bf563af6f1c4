import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { openDataset, randomFor } from "../../data/index.ts";
import { readText } from "../read.ts";
import { defineTask, type InfillItem, type InfillTask } from "../task.ts";

/** Lines of one document that are asked for at most, and characters that a line must have to be worth asking for. */
const linesPerDocument = 10;
const leastCharacters = 8;

/**
 * Single lines of code taken out and asked for, as HumanEval's single-line infilling has it (Fried et al. 2022), of held-out
 * documents. Which lines follows from the document alone.
 */
export const infillLines = defineTask({
  name: "infill-lines",
  summary: "a line taken out of held-out code, filled in exactly (Bavarian et al. 2022)",
  data: "a dataset folder (its held-out documents), or a file of code",
  async load(path): Promise<InfillTask> {
    const kind = await stat(path).catch((error: unknown) => {
      throw explainReadError(error, path);
    });
    const items: InfillItem[] = [];
    if (kind.isDirectory()) {
      for await (const { id, text } of (await openDataset(path)).documents("heldOut")) items.push(...gaps(id, text));
    } else items.push(...gaps(basename(path), await readText(path)));
    if (items.length === 0) throw new PlinthError(`${path}: no lines to ask for`, "name a dataset with held-out code");
    return { name: "infill-lines", kind: "infill", items };
  },
});

function gaps(id: string, text: string): InfillItem[] {
  const lines = text.split("\n");
  const worthy = lines.flatMap((line, i) => (/\w/.test(line) && line.trim().length >= leastCharacters ? [i] : []));
  randomFor(0, text.length).shuffle(worthy);
  return worthy
    .slice(0, linesPerDocument)
    .sort((a, b) => a - b)
    .map((i) => ({
      id: `${id}:${i + 1}`,
      cluster: id,
      prefix: lines
        .slice(0, i)
        .map((line) => `${line}\n`)
        .join(""),
      middle: lines[i] as string,
      suffix: lines
        .slice(i + 1)
        .map((line) => `\n${line}`)
        .join(""),
    }));
}
