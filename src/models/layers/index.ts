export { type ActivationName, activationNames, activations } from "./activation.ts";
export {
  bidirectionalAttention,
  type CausalAttentionOptions,
  causalAttention,
  crossAttention,
  type DropoutSite,
} from "./attention.ts";
export { type CausalHead, causalHead, causalHeadParameters, kvCacheShape, type TrunkOutputs } from "./causal-head.ts";
export {
  checkInputs,
  checkpointed,
  DropoutStreams,
  expectSource,
  positionsOf,
  selectLast,
  selectRows,
} from "./decoder.ts";
export { embedding } from "./embedding.ts";
export {
  type EncoderCall,
  type EncoderConfig,
  encoder,
  type Head,
  type Heads,
  headClasses,
  type Trunk,
} from "./encoder.ts";
export { type LearnedEmbeddingsConfig, learnedEmbeddings } from "./encoder-embeddings.ts";
export {
  denseAndNorm,
  firstToken,
  type HeadPart,
  maskedLmHead,
  meanToken,
  noHead,
  pairHead,
  pooler,
  type RateOf,
  sequenceHead,
  spanHead,
  tokenHead,
} from "./encoder-heads.ts";
export { float32 } from "./float32.ts";
export { gatedMlp, gatedMlpParameters } from "./gated-mlp.ts";
export {
  type GptBlock,
  type GptDecoder,
  type GptDecoderConfig,
  gptDecoder,
  gptDecoderParameters,
  gptLayer,
} from "./gpt-decoder.ts";
export { addBias, conv1d, linear } from "./linear.ts";
export { balanceLoss, type Mixture, type MixtureOptions, mixtureOfExperts } from "./mixture-of-experts.ts";
export {
  callModule,
  inModule,
  MODULE_WRAP,
  type Module,
  type ModuleWrap,
  moduleAt,
  parameter,
  plainWeight,
  requiredParameter,
  wrapModule,
} from "./module.ts";
export { layerNorm, rmsNorm } from "./norm.ts";
export { type DenseOptions, ParameterList } from "./parameter-list.ts";
export { type PostNormConfig, type PostNormNames, postNormBlocks } from "./post-norm.ts";
export { type RelativeBuckets, relativeBias, relativeBucket } from "./relative-position.ts";
export {
  formatRope,
  parseRope,
  type RopeKeys,
  type RopeScaling,
  type RotaryPositions,
  ropeFrequencies,
  ropeScoreFactor,
} from "./rope.ts";
export {
  type RotaryAttentionOptions,
  type RotaryAttentionParameters,
  type Rotation,
  rotaryAttention,
  rotaryAttentionParameters,
  rotatePart,
} from "./rotary-attention.ts";
export {
  type RotaryBlock,
  type RotaryDecoder,
  type RotaryDecoderConfig,
  type RotaryNames,
  rotaryDecoder,
  rotaryDecoderParameters,
} from "./rotary-decoder.ts";
export { windowBias } from "./window-bias.ts";
