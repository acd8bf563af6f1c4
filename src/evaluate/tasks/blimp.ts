import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { explainReadError, PlinthError, readZip, type ZipEntry } from "../../base/index.ts";
import { type Line, parseJsonLines, readText } from "../read.ts";
import { type ChoiceItem, type ChoiceTask, defineTask } from "../task.ts";

/**
 * BLiMP: 67 sets of 1000 pairs of a grammatical and an ungrammatical sentence (Warstadt et al. 2020). A pair is right
 * when the grammatical sentence is the likelier one as a whole.
 */
export const blimp = defineTask({
  name: "blimp",
  summary: "grammatical or not: minimal pairs of sentences (Warstadt et al. 2020)",
  data: "BLiMP.zip, the folder with its .jsonl files, or one of them",
  async load(path): Promise<ChoiceTask> {
    const items = (await jsonLines(path)).map(toItem);
    const name = path.endsWith(".jsonl") ? `blimp/${basename(path, ".jsonl")}` : "blimp";
    return { name, kind: "choice", delimiter: "", items };
  },
});

function toItem({ value, where }: Line<Record<string, unknown>>): ChoiceItem {
  const { sentence_good: good, sentence_bad: bad, UID: uid, pairID: pair, linguistics_term: phenomenon } = value;
  if (typeof good !== "string" || typeof bad !== "string") {
    throw new PlinthError(
      `${where}: expected "sentence_good" and "sentence_bad"`,
      "use the files of BLiMP as published",
    );
  }
  return {
    id: `${String(uid)}/${String(pair)}`,
    ...(typeof phenomenon === "string" ? { group: phenomenon } : {}),
    prompt: "",
    choices: [good, bad],
    answer: 0,
  };
}

async function jsonLines(path: string): Promise<Line<Record<string, unknown>>[]> {
  const kind = await stat(path).catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  const lines: Line<Record<string, unknown>>[] = [];
  if (kind.isDirectory()) {
    for (const name of (await readdir(path)).filter((file) => file.endsWith(".jsonl")).sort()) {
      lines.push(...parseJsonLines(await readText(join(path, name)), join(path, name)));
    }
  } else if (path.endsWith(".zip")) {
    const files = readZip(await readFile(path), path);
    const names = [...files.keys()].filter((name) => name.endsWith(".jsonl") && !name.startsWith("__MACOSX/"));
    for (const name of names.sort()) {
      const text = new TextDecoder().decode((files.get(name) as ZipEntry).bytes());
      lines.push(...parseJsonLines(text, `${path}/${name}`));
    }
  } else {
    lines.push(...parseJsonLines(await readText(path), path));
  }
  return lines;
}
