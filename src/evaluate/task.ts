import { nearestName, PlinthError } from "../base/index.ts";
import type { Language } from "../sandbox/index.ts";

interface ItemBase {
  /** Unique within its task; two models are compared item by item through it. */
  readonly id: string;
  /** Items of the same cluster (a document) are not independent; the standard error is over clusters. Default: the id. */
  readonly cluster?: string | undefined;
  /** What results can be broken down by, such as a phenomenon; default the id up to its last slash. */
  readonly group?: string | undefined;
}

/** A text whose every token is scored. */
export interface TextItem extends ItemBase {
  readonly text: string;
}

/** A completion that is scored given its prompt. */
export interface CompletionItem extends ItemBase {
  readonly prompt: string;
  readonly completion: string;
}

/** A question with choices; the model picks the one it finds likeliest. */
export interface ChoiceItem extends ItemBase {
  readonly prompt: string;
  readonly choices: readonly string[];
  /** Index of the right choice. */
  readonly answer: number;
  /** What a classifier reads, whose labels the choices are; default the prompt. */
  readonly text?: string | undefined;
  /** Of a pair of texts, the second. */
  readonly pair?: string | undefined;
}

/** A question that the model answers in its own words. */
export interface AnswerItem extends ItemBase {
  readonly prompt: string;
  /** Any of these is right; the first is shown in examples. */
  readonly answers: readonly string[];
}

/** A programming problem: the model writes a program, which is then run. */
export interface CodeItem extends ItemBase {
  readonly prompt: string;
  /** The part of the program before the completion; default the prompt. */
  readonly program?: string | undefined;
  /** Run after the program, in its scope; an error is a failure. */
  readonly tests: string;
  /** A completion that passes, shown in examples. */
  readonly solution?: string | undefined;
}

/** A text with a gap, and what was there. */
export interface InfillItem extends ItemBase {
  readonly prefix: string;
  readonly middle: string;
  readonly suffix: string;
}

/** How a task with examples reads to the model, and how answers compare. */
export interface TaskFormat {
  /** Before everything, once. */
  readonly description?: string | undefined;
  /** Between prompt and answer; default a space, or nothing where one of the two already has white space there. */
  readonly delimiter?: string | undefined;
  /** Between examples; default an empty line. */
  readonly separator?: string | undefined;
}

/** How a generated answer ends and when it counts as right. */
export interface AnswerFormat {
  /** Default: the end of the line. */
  readonly stop?: readonly string[] | undefined;
  /** Default 64. */
  readonly maxTokens?: number | undefined;
  readonly ignoreCase?: boolean | undefined;
  readonly ignorePunctuation?: boolean | undefined;
  /** Regular expression: its last match (first group, where it has one) is the answer, in the output and in the key. */
  readonly extract?: string | undefined;
}

/** How a generated program ends and how it is run. */
export interface CodeFormat {
  /** Default python. */
  readonly language?: Language | undefined;
  /** Default: what begins a new statement at the start of a line, as in Chen et al. 2021. */
  readonly stop?: readonly string[] | undefined;
  /** Default 512, or half the model's context where that is less. */
  readonly maxTokens?: number | undefined;
  /** Seconds of processor time that a program with its tests may take; default 3. */
  readonly timeoutSeconds?: number | undefined;
}

interface TaskBase<Kind extends string, Item> {
  readonly name: string;
  readonly kind: Kind;
  /** What is tested. */
  readonly items: readonly Item[];
  /** Where examples come from: another split. When empty, examples are taken from `items` and not tested. */
  readonly examples?: readonly Item[] | undefined;
}

export type TextTask = TaskBase<"text", TextItem>;
export type CompletionTask = TaskBase<"completion", CompletionItem> & TaskFormat;
export type ChoiceTask = TaskBase<"choice", ChoiceItem> & TaskFormat;
export type AnswerTask = TaskBase<"answer", AnswerItem> & TaskFormat & AnswerFormat;

export type InfillTask = TaskBase<"infill", InfillItem> & {
  /** What of the model's output is its answer: the first match. Default: all of it. */
  readonly extract?: RegExp | undefined;
};
export type CodeTask = TaskBase<"code", CodeItem> & TaskFormat & CodeFormat;

/** Items of one kind, ready to be evaluated. */
export type Task = TextTask | CompletionTask | ChoiceTask | AnswerTask | CodeTask | InfillTask;

/** A benchmark that reads its items from data the user has. One file in `tasks/`, registered with {@link defineTask}. */
export interface TaskDefinition {
  readonly name: string;
  readonly summary: string;
  /** What the path must be, for help and messages: `BLiMP.zip, or the folder or a .jsonl file of it`. */
  readonly data: string;
  load(path: string): Promise<Task>;
}

const definitions = new Map<string, TaskDefinition>();

/** Registers a task. Throws when its name is taken. */
export function defineTask(definition: TaskDefinition): TaskDefinition {
  if (definitions.has(definition.name)) throw new Error(`defineTask: "${definition.name}" is defined twice.`);
  definitions.set(definition.name, definition);
  return definition;
}

/** All tasks, in order of definition. */
export function taskDefinitions(): readonly TaskDefinition[] {
  return [...definitions.values()];
}

/** The task called `name`. Throws PlinthError naming those there are. */
export function findTask(name: string): TaskDefinition {
  const found = definitions.get(name);
  if (found !== undefined) return found;
  const names = [...definitions.keys()];
  const near = nearestName(name, names);
  throw new PlinthError(
    `task "${name}" is not known${near === undefined ? "" : ` (did you mean "${near}"?)`}`,
    `use one of ${names.join(", ")}, or the path of a .jsonl file with items of your own`,
  );
}

/** Throws PlinthError when a task has nothing to test or the same id twice. */
export function checkTask(task: Task): void {
  if (task.items.length === 0) throw new PlinthError(`task ${task.name}: no items`, "check the data it reads");
  const seen = new Set<string>();
  for (const { id } of task.items) {
    if (seen.has(id)) throw new PlinthError(`task ${task.name}: two items have the id "${id}"`, "make ids unique");
    seen.add(id);
  }
}
