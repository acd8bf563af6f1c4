import { PlinthError } from "../base/index.ts";
import type { Backend, Precision } from "../engine/index.ts";
import { headOf, type Model } from "../models/index.ts";
import { type PreparedTask, prepareTask } from "./few-shot.ts";
import { measureChoices } from "./metrics/choice.ts";
import { measureClassifier } from "./metrics/classifier.ts";
import { measureCode, measureSolutions } from "./metrics/code.ts";
import { measureCompletions } from "./metrics/completion.ts";
import type { CodeOptions, MeasureContext } from "./metrics/context.ts";
import { measureAnswers } from "./metrics/exact-match.ts";
import { measureInfilling } from "./metrics/infill.ts";
import { measureObjective } from "./metrics/objective.ts";
import { measureTexts } from "./metrics/text.ts";
import { type Measurement, type TaskResult, toResult } from "./result.ts";
import {
  type AnswerTask,
  type ChoiceTask,
  type CodeTask,
  type CompletionTask,
  checkTask,
  type InfillTask,
  type Task,
  type TextTask,
} from "./task.ts";

export interface EvaluateOptions {
  /** Examples before every prompt; default 0. */
  readonly shots?: number | undefined;
  /** Items per task at most, evenly spaced over the task. */
  readonly limit?: number | undefined;
  /** Chooses the examples; default 0. */
  readonly seed?: number | undefined;
  /** Sequences per call of the model; default 8. Changes the speed and nothing else. */
  readonly batchSize?: number | undefined;
  /** Texts longer than the context: tokens that a window repeats from the one before; default half the context. */
  readonly overlap?: number | undefined;
  readonly backend?: Backend | undefined;
  /** Arithmetic; default "f32". Give what the model was trained with to measure what the trainer measured. */
  readonly precision?: Precision | undefined;
  /** For tasks that run the programs that the model writes. */
  readonly code?: CodeOptions | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EvaluateProgress) => void) | undefined;
}

export interface EvaluateProgress {
  readonly task: string;
  readonly done: number;
  readonly total: number;
}

/**
 * Measures a model on tasks. Every metric comes with its standard error; no result depends on the batch size or the
 * order of the items. Throws PlinthError when a task and the model do not go together, and the signal's reason when
 * aborted.
 */
export async function evaluate(
  model: Model,
  tasks: readonly Task[],
  options: EvaluateOptions = {},
): Promise<TaskResult[]> {
  const context = measureContext(model, options);
  const results: TaskResult[] = [];
  for (const task of tasks) {
    checkTask(task);
    const prepared = prepareTask(task, options);
    const onProgress = (done: number, total: number) => options.onProgress?.({ task: task.name, done, total });
    for (const measurement of await measure(prepared, { ...context, onProgress })) {
      results.push(toResult(task.name, measurement, { notes: prepared.notes, asked: prepared.items }));
    }
  }
  return results;
}

/**
 * Measures code tasks' own solutions instead of a model's ("canonical": a harness that works gives 1), or programs that
 * stop where the model should begin ("empty"). Throws PlinthError when a task is of another kind.
 */
export async function evaluateSolutions(
  tasks: readonly Task[],
  source: "canonical" | "empty",
  options: Pick<EvaluateOptions, "limit" | "code" | "signal" | "onProgress"> = {},
): Promise<TaskResult[]> {
  const { code = {}, signal } = options;
  const results: TaskResult[] = [];
  for (const task of tasks) {
    checkTask(task);
    if (task.kind !== "code") {
      throw new PlinthError(`task ${task.name} has no programs to run`, "name code tasks, such as humaneval");
    }
    const prepared = prepareTask(task, { limit: options.limit });
    const onProgress = (done: number, total: number) => options.onProgress?.({ task: task.name, done, total });
    for (const measurement of await measureSolutions(prepared, source, { code, signal, onProgress })) {
      results.push(toResult(task.name, measurement, { notes: prepared.notes, asked: prepared.items }));
    }
  }
  return results;
}

function measure(prepared: PreparedTask, context: MeasureContext): Promise<Measurement[]> {
  switch (prepared.task.kind) {
    case "text":
      return (context.model.family.kind ?? "decoder") === "decoder"
        ? measureTexts(prepared as PreparedTask<TextTask>, context)
        : measureObjective(prepared as PreparedTask<TextTask>, context);
    case "completion":
      return measureCompletions(prepared as PreparedTask<CompletionTask>, context);
    case "choice":
      return headOf(context.model.config).kind === "sequence-classification"
        ? measureClassifier(prepared as PreparedTask<ChoiceTask>, context)
        : measureChoices(prepared as PreparedTask<ChoiceTask>, context);
    case "answer":
      return measureAnswers(prepared as PreparedTask<AnswerTask>, context);
    case "infill":
      return measureInfilling(prepared as PreparedTask<InfillTask>, context);
    case "code":
      return measureCode(prepared as PreparedTask<CodeTask>, context);
  }
}

function measureContext(model: Model, options: EvaluateOptions): MeasureContext {
  const { backend, precision, signal } = options;
  const whole = (name: "shots" | "limit" | "batchSize" | "overlap", least: number, most = Number.MAX_SAFE_INTEGER) => {
    const value = options[name];
    if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) return value;
    const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
    throw new PlinthError(`evaluate: ${name} is ${value}`, `give a whole number ${range}`);
  };
  whole("shots", 0);
  whole("limit", 1);
  const room = model.config.contextLength;
  return {
    model,
    batchSize: whole("batchSize", 1) ?? 8,
    overlap: whole("overlap", 0, room - 1) ?? Math.floor(room / 2),
    code: { seed: options.seed, ...options.code },
    backend,
    precision,
    signal,
  };
}
