import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { openDataset, randomFor } from "../../data/index.ts";
import { readText } from "../read.ts";
import type { InfillItem } from "../task.ts";

/** Gaps of one document at most. */
const gapsPerDocument = 10;

/** Characters of a text: `from` is the first, `to` the first that is not of it. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/**
 * Gaps in the held-out documents of a dataset, or in a file: ten of the spans that `worthy` finds in a document, one gap an item.
 * Which ones follows from the document alone. Throws PlinthError when there are none.
 */
export async function infillGaps(path: string, worthy: (text: string) => Span[]): Promise<InfillItem[]> {
  const kind = await stat(path).catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  const items: InfillItem[] = [];
  if (kind.isDirectory()) {
    for await (const { id, text } of (await openDataset(path)).documents("heldOut"))
      items.push(...gaps(id, text, worthy));
  } else items.push(...gaps(basename(path), await readText(path), worthy));
  if (items.length === 0) throw new PlinthError(`${path}: nothing to ask for`, "name a dataset with held-out code");
  return items;
}

function gaps(id: string, text: string, worthy: (text: string) => Span[]): InfillItem[] {
  const spans = worthy(text);
  randomFor(0, text.length).shuffle(spans);
  return spans
    .slice(0, gapsPerDocument)
    .sort((a, b) => a.from - b.from)
    .map(({ from, to }) => {
      const prefix = text.slice(0, from);
      const line = prefix.split("\n").length;
      const column = from - prefix.lastIndexOf("\n");
      return {
        id: `${id}:${line}:${column}`,
        cluster: id,
        prefix,
        middle: text.slice(from, to),
        suffix: text.slice(to),
      };
    });
}
