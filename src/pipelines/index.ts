import "./tasks/feature-extraction.ts";
import "./tasks/fill-mask.ts";
import "./tasks/question-answering.ts";
import "./tasks/text-classification.ts";
import "./tasks/text-generation.ts";
import "./tasks/token-classification.ts";
import "./tasks/zero-shot-classification.ts";
import type { RunOptions } from "../generate/index.ts";
import type { Model } from "../models/index.ts";
import { createPipeline } from "./pipeline.ts";
import type { FeatureExtraction } from "./tasks/feature-extraction.ts";
import type { FillMask } from "./tasks/fill-mask.ts";
import type { QuestionAnswering } from "./tasks/question-answering.ts";
import type { TextClassification } from "./tasks/text-classification.ts";
import type { Text2TextGeneration, TextGeneration } from "./tasks/text-generation.ts";
import type { TokenClassification } from "./tasks/token-classification.ts";
import type { ZeroShotClassification } from "./tasks/zero-shot-classification.ts";

/** What {@link pipeline} gives for each task. */
export interface PipelineTasks {
  "feature-extraction": FeatureExtraction;
  "fill-mask": FillMask;
  "question-answering": QuestionAnswering;
  "text-classification": TextClassification;
  "sentiment-analysis": TextClassification;
  "text-generation": TextGeneration;
  "text2text-generation": Text2TextGeneration;
  summarization: Text2TextGeneration;
  translation: Text2TextGeneration;
  "token-classification": TokenClassification;
  ner: TokenClassification;
  "zero-shot-classification": ZeroShotClassification;
}

/**
 * A model for a task: a function from text to what was asked. `model` is a loaded model or the folder of one. Throws PlinthError
 * naming the tasks there are, and when the model's head or tokenizer does not suit the task.
 *
 * @example
 * const classify = await pipeline("text-classification", "models/sst2");
 * const [{ label, score }] = await classify("a joy from start to finish");
 */
export async function pipeline<Task extends keyof PipelineTasks>(
  task: Task,
  model: Model | string,
  options: RunOptions = {},
): Promise<PipelineTasks[Task]> {
  return (await createPipeline(task, model, options)) as PipelineTasks[Task];
}

export { definePipeline, type PipelineContext, type PipelineDefinition, pipelineNames } from "./pipeline.ts";
export type { FeatureExtraction, FeatureOptions } from "./tasks/feature-extraction.ts";
export type { FillMask, MaskFilling } from "./tasks/fill-mask.ts";
export type { Answer, QuestionAnswering, QuestionAnsweringOptions } from "./tasks/question-answering.ts";
export type { Classification, TextClassification } from "./tasks/text-classification.ts";
export type {
  GeneratedText,
  Text2TextGeneration,
  Text2TextOptions,
  TextGeneration,
  TextGenerationOptions,
} from "./tasks/text-generation.ts";
export type { Entity, TokenClassification, TokenClassificationOptions } from "./tasks/token-classification.ts";
export type { ZeroShot, ZeroShotClassification, ZeroShotOptions } from "./tasks/zero-shot-classification.ts";
