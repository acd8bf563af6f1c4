import type { StoredTensor } from "./safetensors.ts";

/** What a checkpoint's files looked like, so that an untouched model is written back with the same bytes. */
export interface CheckpointSource {
  /** Absent when they were not safetensors. */
  readonly files?: readonly SourceFile[];
  /** Text of model.safetensors.index.json, when there is one. */
  readonly indexText?: string;
  readonly configText: string;
  /** The object that `configText` was parsed into: text is reused only for this very config. */
  readonly config: object;
  readonly generationConfigText?: string;
}

export interface SourceFile {
  readonly file: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of the data. */
  readonly tensors: readonly SourceTensor[];
}

export interface SourceTensor {
  /** Name in the file. */
  readonly name: string;
  readonly dtype: StoredTensor["dtype"];
  /** The parameter it holds (also for a tied copy), or the bytes of a tensor that the model does not use. */
  readonly holds: { readonly parameter: string } | { readonly inert: StoredTensor };
}
