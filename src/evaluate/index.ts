export { type EvaluateOptions, type EvaluateProgress, evaluate, evaluateSolutions } from "./evaluate.ts";
export { evaluateNgram } from "./evaluate-ngram.ts";
export { loadTasks } from "./load.ts";
export { passAtK } from "./metrics/code.ts";
export type { CodeOptions } from "./metrics/context.ts";
export { NgramModel, type NgramOptions } from "./ngram.ts";
export { type Comparison, compareResults, type Direction, type TaskResult } from "./result.ts";
export * from "./scaling/index.ts";
export {
  allSkills,
  defineSkill,
  findSkill,
  makeItems,
  readDifficulties,
  type Skill,
  type SkillItem,
  trainingTexts,
} from "./skills/index.ts";
export { type Estimate, groupItems, type ItemScore, pairedDifference, ratioEstimate } from "./statistics.ts";
export {
  type AnswerFormat,
  type AnswerItem,
  type AnswerTask,
  type ChoiceItem,
  type ChoiceTask,
  type CodeFormat,
  type CodeItem,
  type CodeTask,
  type CompletionItem,
  type CompletionTask,
  defineTask,
  findTask,
  type InfillItem,
  type InfillTask,
  type Task,
  type TaskDefinition,
  type TaskFormat,
  type TextItem,
  type TextTask,
  taskDefinitions,
} from "./task.ts";
export { loadJsonlTask } from "./tasks/jsonl.ts";
