import { PlinthError } from "../base/index.ts";
import { HostRandom } from "../engine/index.ts";
import type { AnswerItem, ChoiceItem, CodeItem, CompletionItem, Task, TaskFormat } from "./task.ts";

type PromptItem = CompletionItem | ChoiceItem | AnswerItem | CodeItem;

/** A task with its examples chosen and what is left to test. */
export interface PreparedTask<T extends Task = Task> {
  readonly task: T;
  readonly items: T["items"];
  /** Text before every prompt: description and examples; empty with neither. */
  readonly preamble: string;
  readonly notes: readonly string[];
}

/**
 * Chooses `shots` examples by seed, the same for all items, from the task's own split of examples; without one, from
 * the items, which are then not tested. Then keeps `limit` of the items, evenly spaced.
 * Throws PlinthError when there are too few examples or the task cannot have any.
 */
export function prepareTask<T extends Task>(
  task: T,
  { shots = 0, limit, seed = 0 }: { shots?: number | undefined; limit?: number | undefined; seed?: number | undefined },
): PreparedTask<T> {
  let items: readonly T["items"][number][] = task.items;
  const notes: string[] = [];
  let preamble = "";
  if (task.kind === "text" || task.kind === "infill") {
    if (shots > 0) throw new PlinthError(`task ${task.name}: plain texts have no examples`, "leave out --shots");
  } else {
    const format: TaskFormat = task;
    let chosen: readonly PromptItem[] = [];
    if (shots > 0) {
      const own = (task.examples ?? []).length === 0;
      const pool: PromptItem[] = own ? [...task.items] : [...(task.examples ?? [])];
      const unsolved = pool.find((item) => "tests" in item && item.solution === undefined);
      if (unsolved !== undefined) {
        throw new PlinthError(
          `task ${task.name}: item ${unsolved.id} has no solution, so it cannot serve as an example`,
          "add one to it, or leave out --shots",
        );
      }
      if (pool.length < shots + (own ? 1 : 0)) {
        throw new PlinthError(
          `task ${task.name}: ${shots} examples are asked for, ${own ? "and" : "but"} it has ${pool.length} items to take them from`,
          "ask for fewer with --shots",
        );
      }
      new HostRandom(seed).shuffle(pool);
      chosen = pool.slice(0, shots);
      if (own) {
        const taken = new Set(chosen.map(({ id }) => id));
        items = items.filter(({ id }) => !taken.has(id));
        notes.push(`${shots} items serve as examples and are not tested`);
      }
    }
    const separator = format.separator ?? "\n\n";
    const parts = chosen.map((item) => item.prompt + joinAnswer(item.prompt, answerOf(item), format) + separator);
    preamble = (format.description ?? "") + parts.join("");
  }
  return { task, items: evenlySpaced(items, limit) as T["items"], preamble, notes };
}

/** The answer with what stands between it and the prompt. */
export function joinAnswer(prompt: string, answer: string, { delimiter }: TaskFormat): string {
  if (delimiter !== undefined) return delimiter + answer;
  return prompt === "" || /\s$/.test(prompt) || /^\s/.test(answer) ? answer : ` ${answer}`;
}

function answerOf(item: PromptItem): string {
  if ("completion" in item) return item.completion;
  if ("tests" in item) return item.solution ?? "";
  return "choices" in item ? (item.choices[item.answer] as string) : (item.answers[0] as string);
}

/** Items at equal distances: the first ones are often all of one sort. */
function evenlySpaced<T>(items: readonly T[], limit: number | undefined): T[] {
  const count = Math.min(limit ?? items.length, items.length);
  return Array.from({ length: count }, (_, i) => items[Math.floor((i * items.length) / count)] as T);
}
