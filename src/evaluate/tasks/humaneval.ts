import { PlinthError } from "../../base/index.ts";
import { parseJsonLines, readText } from "../read.ts";
import { type CodeTask, defineTask } from "../task.ts";

/**
 * HumanEval: 164 Python functions to be written from signature and docstring, judged by unit tests (Chen et al. 2021,
 * whose stop strings are the default of this kind).
 */
export const humaneval = defineTask({
  name: "humaneval",
  summary: "Python functions from their docstrings, run against unit tests (Chen et al. 2021)",
  data: "HumanEval.jsonl.gz",
  async load(path): Promise<CodeTask> {
    const items = parseJsonLines(await readText(path), path).map(({ value, where }) => {
      const field = (name: string): string => {
        const text = value[name];
        if (typeof text === "string") return text;
        throw new PlinthError(`${where}: expected "${name}"`, "use HumanEval.jsonl.gz as published");
      };
      return {
        id: field("task_id"),
        prompt: field("prompt"),
        solution: field("canonical_solution"),
        tests: `${field("test")}\ncheck(${field("entry_point")})\n`,
      };
    });
    return { name: "humaneval", kind: "code", language: "python", delimiter: "", items };
  },
});
