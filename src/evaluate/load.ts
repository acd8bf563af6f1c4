import { existsSync } from "node:fs";
import { PlinthError } from "../base/index.ts";
import "./tasks/index.ts";
import { findTask, type Task } from "./task.ts";
import { loadJsonlTask } from "./tasks/jsonl.ts";

/**
 * Tasks as the command line names them, separated by commas: a name (`perplexity`), a name with its data
 * (`perplexity=data/books`), or a .jsonl file with items of one's own. `data` is the path for names that have none.
 * Throws PlinthError naming the task when it is not known or its data is missing.
 */
export async function loadTasks(spec: string, data?: string): Promise<Task[]> {
  const parts = spec.split(",").map((part) => part.trim());
  const tasks: Task[] = [];
  for (const part of parts.filter((text) => text !== "")) tasks.push(await loadTask(part, data));
  if (tasks.length === 0)
    throw new PlinthError("no tasks are named", "name some, separated by commas: --tasks sst2,perplexity");
  return tasks;
}

async function loadTask(part: string, data: string | undefined): Promise<Task> {
  const at = part.indexOf("=");
  if (at < 0 && (/\.jsonl?$/.test(part) || /[\\/]/.test(part))) {
    if (!existsSync(part)) throw new PlinthError(`${part}: no such file or folder`, "check the path of the task");
    return loadJsonlTask(part);
  }
  const definition = findTask(at < 0 ? part : part.slice(0, at));
  const path = at < 0 ? data : part.slice(at + 1);
  if (path === undefined || path === "") {
    throw new PlinthError(
      `task ${definition.name} needs its data`,
      `write --tasks ${definition.name}=PATH, where PATH is ${definition.data}`,
    );
  }
  return definition.load(path);
}
