export { type CheckpointInfo, listCheckpoints, type RunState, readRunState } from "./checkpoint.ts";
export { HeldOutMeasure } from "./held-out.ts";
export { muP, withMuP } from "./mup.ts";
export { type Assemble, assemblePlain } from "./objectives/assemble.ts";
export {
  causalLm,
  causalLmBatch,
  causalLmData,
  causalLmHeldOut,
} from "./objectives/causal-lm.ts";
export { sequenceClassification, tokenClassification } from "./objectives/classification.ts";
export { contrastive } from "./objectives/contrastive.ts";
export { classLoss, type LabelledArrays, type LossSum, type ObjectiveOptions } from "./objectives/head-loss.ts";
export {
  definePretraining,
  objectiveOf,
  type PreparedObjective,
  type PretrainingObjective,
  type PretrainingOptions,
  pretrainingObjective,
  pretrainingObjectives,
} from "./objectives/index.ts";
export {
  drawMasks,
  type MaskedLmOptions,
  type Masks,
  maskedLm,
  maskedLmBatch,
  maskedLmData,
  maskedLmHeldOut,
  maskingOf,
} from "./objectives/masked-lm.ts";
export { addNextSentence, nextSentence } from "./objectives/next-sentence.ts";
export { questionAnswering } from "./objectives/question-answering.ts";
export {
  type CorruptedText,
  corruptSpans,
  type SpanCorruptionOptions,
  spanCorruptionBatch,
  spanCorruptionOf,
} from "./objectives/span-corruption.ts";
export {
  createOptimizer,
  defineOptimizer,
  type Optimizer,
  type OptimizerDefinition,
  optimizerDefaults,
  optimizerNames,
  type UpdateContext,
} from "./optimizers/index.ts";
export {
  float32Parameters,
  isHidden,
  type LanguageModelOptions,
  modelFiles,
  pretrain,
  type TrainedModel,
  withParameters,
} from "./pretrain.ts";
export { defineSchedule, findSchedule, type Schedule, type ScheduleOptions, scheduleNames } from "./schedules/index.ts";
export { SpikeDetector } from "./spike.ts";
export { type StepOptions, type StepResult, TrainStep } from "./step.ts";
export { train } from "./train.ts";
export type {
  HeldOut,
  LossFunction,
  ModelFiles,
  Parameters,
  SpikeOptions,
  StepEvent,
  TrainBatch,
  TrainData,
  TrainEvent,
  TrainOptions,
  TrainResult,
} from "./types.ts";
