export { type TrainBpeOptions, trainBpe } from "./bpe-trainer.ts";
export { type BuildOptions, type BuildProgress, buildDataset } from "./build.ts";
export { trainCharTokenizer } from "./char-tokenizer.ts";
export type { ChatMessage, ChatOptions, RenderedChat } from "./chat-template.ts";
export { type Dataset, type Document, openDataset } from "./dataset.ts";
export type { Manifest, Split } from "./manifest.ts";
export { defineSource, type Source, type SourceItem, type SourceOptions } from "./source.ts";
export type { StreamDecoder } from "./stream-decoder.ts";
export { type EncodeOptions, Tokenizer } from "./tokenizer.ts";
