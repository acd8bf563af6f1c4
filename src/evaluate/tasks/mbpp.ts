import { z } from "zod";
import { PlinthError } from "../../base/index.ts";
import { parseJsonLines, readText } from "../read.ts";
import { type CodeItem, type CodeTask, defineTask } from "../task.ts";

const problem = z.object({
  task_id: z.int(),
  text: z.string(),
  code: z.string(),
  test_setup_code: z.string(),
  test_list: z.array(z.string()).min(1),
});

/**
 * MBPP: short Python programs from a sentence and three tests (Austin et al. 2021). Prompt and split (problems 11 to 510;
 * examples from 1 to 10) as in lm-evaluation-harness.
 */
export const mbpp = defineTask({
  name: "mbpp",
  summary: "short Python programs from a sentence and three tests (Austin et al. 2021), best with --shots 3",
  data: "mbpp.jsonl",
  async load(path): Promise<CodeTask> {
    const problems = parseJsonLines(await readText(path), path).map(({ value, where }) => {
      const { success, data } = problem.safeParse(value);
      if (success) return data;
      throw new PlinthError(`${where}: not a problem of MBPP`, "use mbpp.jsonl as published");
    });
    const within = (first: number, last: number) =>
      problems.filter(({ task_id: id }) => id >= first && id <= last).map(toItem);
    return {
      name: "mbpp",
      kind: "code",
      language: "python",
      delimiter: "",
      separator: "\n[DONE]\n\n",
      stop: ["[DONE]"],
      timeoutSeconds: 10, // the published solution of problem 123 takes more than 3
      items: within(11, 510),
      examples: within(1, 10),
    };
  },
});

function toItem({
  task_id: id,
  text,
  code,
  test_setup_code: setup,
  test_list: tests,
}: z.output<typeof problem>): CodeItem {
  return {
    id: `${id}`,
    prompt: `You are an expert Python programmer, and here is your task: ${text} Your code should pass these tests:\n\n${tests.join("\n")}\n[BEGIN]\n`,
    program: "",
    solution: code.replaceAll("\r\n", "\n"),
    tests: [setup, ...tests].join("\n"),
  };
}
