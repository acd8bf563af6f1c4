import { basename, dirname, resolve } from "node:path";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { nearestName, PlinthError } from "../../base/index.ts";
import { languages } from "../../sandbox/index.ts";
import { type Line, parseJsonLines, readText } from "../read.ts";
import type { AnswerItem, ChoiceItem, CodeItem, CompletionItem, InfillItem, Task, TextItem } from "../task.ts";

/**
 * A user's own task: JSON lines, optionally after a YAML header between two lines of `---`. The fields of the lines say
 * what kind it is: {"text"}; {"prompt", "completion"}; {"prompt" or "query", "choices", "answer": index or choice};
 * {"text", "label"} (or with a second text, "pair"; the choices are the labels of the file); {"prompt" or "query", "answer": text or list};
 * {"prompt", "tests"}; {"prefix", "middle", "suffix"}. Any line may have "id", "cluster" (items that are not independent)
 * and "split": "train" (an example for few-shot prompts, not tested). Throws PlinthError naming file and line.
 */
export async function loadJsonlTask(path: string): Promise<Task> {
  const { header, lines } = await readTaskFile(path);
  const tested = lines.filter(({ value }) => value.split !== "train");
  const trained = lines.filter(({ value }) => value.split === "train");
  if (tested.length === 0) throw new PlinthError(`${path}: no items`, "write one JSON object per line");
  const { name = basename(path).replace(/\.jsonl?$/, ""), examples: examplesPath, ...format } = header;
  if (examplesPath !== undefined) {
    for (const line of (await readTaskFile(resolve(dirname(path), examplesPath))).lines) trained.push(line);
  }
  const kind = kindOf(tested[0] as Line<Fields>);
  const read = <T>(toItem: (line: Line<Fields>, id: string) => T): { items: T[]; examples: T[] } => ({
    items: tested.map((line, i) => toItem(sameKind(line, kind), line.value.id ?? `${i + 1}`)),
    examples: trained.map((line, i) => toItem(sameKind(line, kind), line.value.id ?? `train-${i + 1}`)),
  });
  switch (kind) {
    case "text":
      return { name, kind, ...read(toText) };
    case "completion":
      return { name, kind, ...format, ...read(toCompletion) };
    case "choice": {
      const labels = [...new Set([...tested, ...trained].flatMap(({ value: { label } }) => label ?? []))].sort();
      return { name, kind, ...format, ...read((line, id) => toChoice(line, id, labels)) };
    }
    case "answer":
      return { name, kind, ...format, ...read(toAnswer) };
    case "infill":
      return { name, kind, ...read(toInfill) };
    case "code":
      return { name, kind, ...format, ...read(toCode) };
  }
}

const header = z.strictObject({
  name: z.string().optional(),
  /** Path of a file with examples for few-shot prompts, relative to this one. */
  examples: z.string().optional(),
  description: z.string().optional(),
  delimiter: z.string().optional(),
  separator: z.string().optional(),
  stop: z.array(z.string().min(1)).optional(),
  maxTokens: z.int().positive().optional(),
  ignoreCase: z.boolean().optional(),
  ignorePunctuation: z.boolean().optional(),
  extract: z.string().optional(),
  language: z.enum(languages).optional(),
  timeoutSeconds: z.number().positive().optional(),
});

const text = z.string();
const fields = z.strictObject({
  id: z.union([z.string(), z.number()]).transform(String).optional(),
  cluster: z.union([z.string(), z.number()]).transform(String).optional(),
  split: z.enum(["train", "test"]).optional(),
  text: text.optional(),
  pair: text.optional(),
  label: z.union([text, z.number()]).transform(String).optional(),
  prompt: text.optional(),
  query: text.optional(),
  completion: text.optional(),
  choices: z.array(text).min(2).optional(),
  answer: z.union([text, z.number(), z.array(text).min(1)]).optional(),
  program: text.optional(),
  tests: text.optional(),
  solution: text.optional(),
  prefix: text.optional(),
  middle: text.optional(),
  suffix: text.optional(),
});
type Fields = z.output<typeof fields>;
type Kind = Task["kind"];

async function readTaskFile(path: string): Promise<{ header: z.output<typeof header>; lines: Line<Fields>[] }> {
  const source = (await readText(path)).replaceAll("\r\n", "\n");
  const match = /^---\n([\s\S]*?)\n---\n/.exec(source);
  const body = match === null ? source : source.slice(match[0].length);
  const firstLine = match === null ? 1 : match[0].split("\n").length;
  return {
    header: match === null ? {} : parseHeader(match[1] as string, path),
    lines: parseJsonLines(body, path, firstLine).map(({ value, where }) => ({
      value: check(fields, value, where),
      where,
    })),
  };
}

function parseHeader(yaml: string, path: string): z.output<typeof header> {
  let value: unknown;
  try {
    value = parseYaml(yaml);
  } catch (error) {
    throw new PlinthError(`${path}: the header is not YAML (${(error as Error).message.split("\n")[0]})`, "correct it");
  }
  const checked = check(header, value, `${path}: header`);
  try {
    if (checked.extract !== undefined) new RegExp(checked.extract, "gu");
  } catch (error) {
    throw new PlinthError(`${path}: header: extract: ${(error as Error).message}`, "correct the regular expression");
  }
  return checked;
}

function check<S extends z.ZodObject>(schema: S, value: unknown, where: string): z.output<S> {
  const known = Object.keys(schema.shape);
  const unknown = Object.keys((value ?? {}) as object).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    const near = nearestName(unknown, known);
    throw new PlinthError(
      `${where}: unknown field "${unknown}"${near === undefined ? "" : ` (did you mean "${near}"?)`}`,
      `use ${known.join(", ")}`,
    );
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  throw new PlinthError(
    `${where}: ${issue.path.length > 0 ? `"${issue.path.join(".")}": ` : ""}${issue.message}`,
    "correct the line",
  );
}

function kindOf({ value, where }: Line<Fields>): Kind {
  const hasPrompt = value.prompt !== undefined || value.query !== undefined;
  if (value.text !== undefined && value.label !== undefined) return "choice";
  if (value.text !== undefined && !hasPrompt) return "text";
  if (value.prefix !== undefined && value.middle !== undefined && value.suffix !== undefined) return "infill";
  if (hasPrompt && value.choices !== undefined && value.answer !== undefined) return "choice";
  if (hasPrompt && value.completion !== undefined) return "completion";
  if (hasPrompt && value.answer !== undefined) return "answer";
  if (hasPrompt && value.tests !== undefined) return "code";
  throw new PlinthError(
    `${where}: cannot tell what kind of item this is from its fields ${Object.keys(value).join(", ")}`,
    "write text; or text and label; or prompt and completion; or prompt, choices and answer; or prompt and answer; or prompt and tests; or prefix, middle and suffix",
  );
}

function sameKind(line: Line<Fields>, kind: Kind): Line<Fields> {
  const own = kindOf(line);
  if (own === kind) return line;
  throw new PlinthError(`${line.where}: a ${own} item among ${kind} items`, "keep one kind of item per file");
}

function toText({ value: { text = "", cluster } }: Line<Fields>, id: string): TextItem {
  return { id, cluster, text };
}

function toCompletion({ value }: Line<Fields>, id: string): CompletionItem {
  return { id, cluster: value.cluster, prompt: promptOf(value), completion: value.completion ?? "" };
}

function toChoice({ value, where }: Line<Fields>, id: string, labels: readonly string[]): ChoiceItem {
  if (value.label !== undefined) {
    const { cluster, text = "", pair } = value;
    const prompt = pair === undefined ? text : `${text}\n${pair}`;
    return { id, cluster, prompt, choices: labels, answer: labels.indexOf(value.label), text, pair };
  }
  const choices = value.choices ?? [];
  const answer = typeof value.answer === "number" ? value.answer : choices.indexOf(String(value.answer));
  if (Number.isInteger(answer) && answer >= 0 && answer < choices.length) {
    return { id, cluster: value.cluster, prompt: promptOf(value), choices, answer };
  }
  throw new PlinthError(
    `${where}: answer ${JSON.stringify(value.answer)} is none of the ${choices.length} choices`,
    "give the index of the right choice, counted from 0, or its text",
  );
}

function toAnswer({ value }: Line<Fields>, id: string): AnswerItem {
  const answers = Array.isArray(value.answer) ? value.answer : [String(value.answer)];
  return { id, cluster: value.cluster, prompt: promptOf(value), answers };
}

function toCode({ value }: Line<Fields>, id: string): CodeItem {
  const { cluster, program, solution, tests = "" } = value;
  return { id, cluster, prompt: promptOf(value), program, tests, solution };
}

function toInfill({ value: { cluster, prefix = "", middle = "", suffix = "" } }: Line<Fields>, id: string): InfillItem {
  return { id, cluster, prefix, middle, suffix };
}

function promptOf({ prompt, query }: Fields): string {
  return prompt ?? query ?? "";
}
