import { allSkills, makeItems, readDifficulties } from "../skills/index.ts";
import { type AnswerTask, defineTask } from "../task.ts";

/** Questions of each difficulty. */
const itemsEach = 100;

/** Every synthetic skill is a task; its data is the difficulties to ask, and ids are `copy/4/17`: skill, difficulty, number. */
export const skillTasks = allSkills().map((skill) =>
  defineTask({
    name: skill.name,
    summary: `synthetic: ${skill.summary}`,
    data: `a difficulty or a range of them, such as 4 or 1-8 (${skill.difficulty})`,
    load: async (path): Promise<AnswerTask> => ({
      name: skill.name,
      kind: "answer",
      delimiter: "",
      maxTokens: 48,
      items: readDifficulties(path).flatMap((difficulty) =>
        makeItems(skill, difficulty, { count: itemsEach, split: "test" }).map(({ prompt, answer }, i) => ({
          id: `${skill.name}/${difficulty}/${i}`,
          prompt,
          answers: [answer],
        })),
      ),
    }),
  }),
);
