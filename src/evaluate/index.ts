export { type EvaluateOptions, type EvaluateProgress, evaluate } from "./evaluate.ts";
export { loadTasks } from "./load.ts";
export { type Comparison, compareResults, type Direction, type TaskResult } from "./result.ts";
export { type Estimate, type ItemScore, pairedDifference, ratioEstimate } from "./statistics.ts";
export {
  type AnswerFormat,
  type AnswerItem,
  type AnswerTask,
  type ChoiceItem,
  type ChoiceTask,
  type CompletionItem,
  type CompletionTask,
  defineTask,
  findTask,
  type Task,
  type TaskDefinition,
  type TaskFormat,
  type TextItem,
  type TextTask,
  taskDefinitions,
} from "./task.ts";
export { loadJsonlTask } from "./tasks/jsonl.ts";
