import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { explainReadError } from "../../base/index.ts";
import { openDataset } from "../../data/index.ts";
import { readText } from "../read.ts";
import { defineTask, type TextItem, type TextTask } from "../task.ts";

const endOfText = "<|endoftext|>";

/** Bits per byte and perplexity of documents: the held-out part of a dataset, or text files. */
export const perplexity = defineTask({
  name: "perplexity",
  summary:
    "bits per byte and perplexity of held-out documents or text files; of an encoder or encoder-decoder the accuracy of hidden tokens",
  data: `a dataset folder (its held-out documents), a text file (documents separated by ${endOfText}), or a folder of .txt files`,
  async load(path): Promise<TextTask> {
    const kind = await stat(path).catch((error: unknown) => {
      throw explainReadError(error, path);
    });
    if (!kind.isDirectory()) return { name: "perplexity", kind: "text", items: await readDocuments(path, "") };
    const names = await readdir(path);
    const items: TextItem[] = [];
    if (names.includes("manifest.json")) {
      for await (const { id, text } of (await openDataset(path)).documents("heldOut")) items.push({ id, text });
    } else {
      for (const name of names.filter((file) => file.endsWith(".txt")).sort()) {
        for (const item of await readDocuments(join(path, name), `${name}-`)) items.push(item);
      }
    }
    return { name: "perplexity", kind: "text", items };
  },
});

async function readDocuments(path: string, prefix: string): Promise<TextItem[]> {
  const texts = (await readText(path)).split(endOfText).filter((text) => text.trim() !== "");
  return texts.map((text, i) => ({ id: `${prefix}${i + 1}`, text }));
}
