export { type ChatPrompt, chatPrompt, promptRoom } from "./chat.ts";
export { generate, generateAll, generateText } from "./generate.ts";
export {
  type Gap,
  type InfillingOrder,
  type InfillOptions,
  infill,
  infillingOrders,
  infillingPrompt,
} from "./infill.ts";
export type {
  EndEvent,
  FinishReason,
  GenerateEvent,
  GenerateOptions,
  Generation,
  Prompt,
  PromptRequest,
  RequestOptions,
  SamplingOptions,
  TokenEvent,
  TokenLogprob,
} from "./options.ts";
export type { RunOptions } from "./per-model.ts";
export { encodePrompts, modelBosId, modelEosIds } from "./prompts.ts";
export {
  classifyTexts,
  embedTexts,
  encodeTextPairs,
  expectHead,
  type HeadResult,
  type RunHeadOptions,
  runHead,
} from "./run-head.ts";
export { type Distribution, logSoftmax, nextTokenDistribution, pick, topIds } from "./sampler.ts";
export { ignoreTarget, type Score, type ScoreOptions, type ScoreRequest, scoreSequences } from "./score.ts";
