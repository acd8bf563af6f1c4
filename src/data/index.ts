export { type Batch, ignoreIndex } from "./batch.ts";
export type { BatchSource, JsonValue } from "./batch-source.ts";
export {
  type BatchOptions,
  type Mixture,
  type MixtureComponent,
  packedBatches,
} from "./batches.ts";
export { defaultSpecialTokens, type TrainBpeOptions, trainBpe } from "./bpe-trainer.ts";
export { type BuildOptions, type BuildProgress, buildDataset } from "./build.ts";
export { trainCharTokenizer } from "./char-tokenizer.ts";
export { type ChatMessage, type ChatOptions, chatMlTemplate, type RenderedChat } from "./chat-template.ts";
export { type Compression, compression } from "./compression.ts";
export type { TrainingControl } from "./count-words.ts";
export { type Dataset, type Document, openDataset } from "./dataset.ts";
export type { Encoded, TruncateOptions, WindowOptions } from "./encoding.ts";
export {
  encodeForInfilling,
  type InfillingOptions,
  type InfillingTokens,
  infillingTokens,
  requiredInfillingTokens,
} from "./fill-in-the-middle.ts";
export { type HeldOutOptions, heldOutBatches } from "./held-out-batches.ts";
export {
  contrastiveBatches,
  contrastiveHeldOut,
  type LabelledOptions,
  type LabelledText,
  labelledBatches,
  labelledHash,
  labelledHeldOut,
  type TargetLayout,
} from "./labelled-batches.ts";
export type { Manifest, Split } from "./manifest.ts";
export { type PackingReport, packingReport } from "./packing.ts";
export { randomFor } from "./row-stream.ts";
export { heldOutSentencePairs, type SentencePairOptions, sentencePairBatches } from "./sentence-pairs.ts";
export { defineSource, type Source, type SourceItem, type SourceOptions } from "./source.ts";
export type { StreamDecoder } from "./stream-decoder.ts";
export { type EncodedPair, encodePairs, joinPair, type PairTokens, pairTokens, type TextPair } from "./text-pairs.ts";
export { type TokenDocument, TokenDocuments, tokenDocuments } from "./token-documents.ts";
export { type TokenizedDataset, type TokenizeOptions, tokenizeDataset } from "./tokenize-dataset.ts";
export { type EncodeOptions, Tokenizer } from "./tokenizer.ts";
export { hasTokenizer } from "./tokenizer-files.ts";
export { type TrainUnigramOptions, trainUnigram, unigramSpecialTokens } from "./unigram-trainer.ts";
export { bertSpecialTokens } from "./word-piece.ts";
export { type TrainWordPieceOptions, trainWordPiece } from "./word-piece-trainer.ts";
