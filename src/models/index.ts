export { type BertConfig, bert } from "./bert.ts";
export {
  commonInertKeys,
  endTokens,
  expectAllKvHeads,
  expectMultiple,
  formatEndTokens,
  formatTokenIds,
  parseModelConfig,
  tokenIds,
} from "./config.ts";
export { type DecoderClasses, decoderHeads } from "./decoder-heads.ts";
export { type DistilBertConfig, distilbert } from "./distilbert.ts";
export {
  type Cache,
  type CheckpointNaming,
  defineModel,
  expectDecoder,
  expectGenerator,
  type ForwardContext,
  type ForwardInputs,
  type ForwardOutputs,
  type HiddenOutputs,
  type Init,
  type ModelConfig,
  type ModelDials,
  type ModelFamily,
  modelFamilies,
  modelFamily,
  type ParameterSpec,
} from "./family.ts";
export {
  readSafetensors,
  type SafetensorsFile,
  type StoredTensor,
  type TensorFile,
  type WriteSafetensorsOptions,
  writeSafetensors,
} from "./formats/safetensors.ts";
export type { SafetensorsDType, SafetensorsEntry } from "./formats/safetensors-header.ts";
export { readTorchCheckpoint } from "./formats/torch-checkpoint.ts";
export { type Gemma2Config, gemma2 } from "./gemma2.ts";
export { type Gemma3TextConfig, gemma3Text } from "./gemma3_text.ts";
export {
  type GgufTensor,
  type GgufType,
  type GgufValue,
  ggufBytes,
  ggufLlamaMetadata,
  ggufName,
  quantizeQ4_0,
  saveGguf,
  writeGguf,
} from "./gguf.ts";
export { type GptBigCodeConfig, gptBigCode } from "./gpt_bigcode.ts";
export { type GptNeoConfig, gptNeo } from "./gpt_neo.ts";
export { type GptNeoXConfig, gptNeoX } from "./gpt_neox.ts";
export { type Gpt2Config, gpt2 } from "./gpt2.ts";
export {
  formatHead,
  type HeadClasses,
  type HeadConfig,
  type HeadKind,
  headConfig,
  headKeys,
  headKinds,
  headOf,
  type Problem,
  parseHead,
} from "./head-config.ts";
export * as layers from "./layers/index.ts";
export { callModule, linear, MODULE_WRAP, type Module, type ModuleWrap, wrapModule } from "./layers/index.ts";
export { type LlamaConfig, llama } from "./llama.ts";
export { type LlamaDecoder, llamaDecoder } from "./llama-decoder.ts";
export { checkVocabulary, loadModel } from "./load.ts";
export { type MistralConfig, mistral } from "./mistral.ts";
export { type MixtralConfig, mixtral } from "./mixtral.ts";
export { castParams, countParameters, initModel, type Model, modelDType, paramsTree } from "./model.ts";
export { type ModernBertConfig, modernbert } from "./modernbert.ts";
export { type PalmConfig, palm } from "./palm.ts";
export { editFamily, type ModelQuantization, quantizeModel, quantizeTree } from "./quantize.ts";
export { type Qwen2Config, qwen2 } from "./qwen2.ts";
export { type Qwen3Config, qwen3 } from "./qwen3.ts";
export { type RobertaConfig, roberta } from "./roberta.ts";
export {
  formatRotaryConfig,
  type RotaryConfig,
  type RotaryKeys,
  rotaryConfig,
  rotaryDials,
  rotaryKeys,
} from "./rotary-config.ts";
export { type SaveOptions, saveModel } from "./save.ts";
export { type Starcoder2Config, starcoder2 } from "./starcoder2.ts";
export { type T5Config, t5 } from "./t5.ts";
export { tokenLosses } from "./token-losses.ts";
export { type HeadOptions, withHead } from "./with-head.ts";
