import { nearestName, PlinthError } from "../base/index.ts";
import type { Shape, Tensor, Tree } from "../engine/index.ts";
import { type HeadClasses, type HeadConfig, headOf } from "./head-config.ts";

/** What every model's config offers to the layers above, whatever its checkpoint calls it. Plain and frozen. */
export interface ModelConfig {
  readonly modelType: string;
  readonly vocabSize: number;
  /** Longest sequence the model was made for: size of the position table, or the range its rotary positions cover. */
  readonly contextLength: number;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly tieWordEmbeddings: boolean;
  /** What stands on the trunk; absent: the language-model head. */
  readonly head?: HeadConfig;
  readonly bosTokenId?: number;
  /** Encoder-decoders: what stands before the first token written. */
  readonly decoderStartTokenId?: number;
  /** Generation ends after any of these. */
  readonly eosTokenIds: readonly number[];
  /** Known keys of config.json that change nothing here (`use_cache`, `summary_type`, ...), written back as they came. */
  readonly inert: Readonly<Record<string, unknown>>;
}

/** The few choices that make a new model; the rest follows the reference's defaults. */
export interface ModelDials {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  /** Default `numHeads`; a family without grouped-query attention refuses anything else. */
  readonly numKvHeads?: number | undefined;
  /** Width of the feed-forward layer; default as the family has it. */
  readonly intermediateSize?: number | undefined;
  /** Dropout rate while training; default 0. */
  readonly dropout?: number | undefined;
  readonly tieWordEmbeddings?: boolean | undefined;
  readonly bosTokenId?: number | undefined;
  readonly eosTokenId?: number | undefined;
}

/** How a parameter starts. */
export type Init =
  | { readonly kind: "normal"; readonly std: number }
  | { readonly kind: "zeros" }
  | { readonly kind: "ones" };

/** One parameter of a model. */
export interface ParameterSpec {
  readonly shape: Shape;
  readonly init: Init;
  /** Subject to weight decay: matrices and embeddings are, norms and biases are not. */
  readonly decay: boolean;
  /** The kind of module that owns it; `linear` has weight[out,in], `conv1d` weight[in,out]. */
  readonly module: "linear" | "conv1d" | "embedding" | "norm";
  /** The product that gives the logits: adapters of all linear layers and quantisation leave it out unless told otherwise. */
  readonly isHead?: boolean;
}

/** Keys and values of every layer, `{name: [B,S,G,K]}`, as {@link ModelFamily.cacheShape} lists them. */
export type Cache = Readonly<Record<string, Tensor>>;

export interface ForwardInputs {
  /** int32[B,T] */
  readonly tokens: Tensor;
  /** int32[B]: position of `tokens[:,0]`, which is also the row of the cache it goes to; 0 when absent. */
  readonly start?: Tensor | undefined;
  /** int32[B,T] document ids: a token attends only to tokens of its own document. */
  readonly segments?: Tensor | undefined;
  /** int32[B,T] positions, restarting per document; `start + 0..T-1` when absent. */
  readonly positions?: Tensor | undefined;
  readonly cache?: Cache | undefined;
  /** int32[B]: compute the logits of this token of each row only. */
  readonly lastIndex?: Tensor | undefined;
  /** int32[B,R], encoders: compute the logits of these tokens of each row only -> [B,R,V]. */
  readonly rows?: Tensor | undefined;
  /** int32[B,S], encoder-decoders: the text to read; `tokens` are what is written. */
  readonly source?: Tensor | undefined;
  /** int32[B,S] document ids of the source, of which each token sees its own document's; 0 is padding. */
  readonly sourceSegments?: Tensor | undefined;
  /** Encoder-decoders: what {@link ModelFamily.readSource} made of the source, in its place. */
  readonly memory?: Cache | undefined;
  /** int32[B,T], encoders of text pairs: 0 for tokens of the first text, 1 for the second; all 0 when absent. Models without types do not read it. */
  readonly tokenTypes?: Tensor | undefined;
}

export interface ForwardContext {
  /** int32[2] random key. Present: dropout is on, at the rates of the config. */
  readonly dropoutKey?: Tensor | undefined;
  /** Keep only the input of every block for the gradient and compute the rest again (activation checkpointing). */
  readonly remat?: boolean | undefined;
}

/** What the logits are made of: logits[B,T,V] = hidden[B,T,D] x headWeight[V,D]ᵀ, capped where there is a cap. */
export interface HiddenOutputs {
  readonly hidden: Tensor;
  readonly headWeight: Tensor;
  /** Then logits y become cap * tanh(y / cap). */
  readonly softCap?: number | undefined;
  /** As {@link ForwardOutputs.auxiliaryLoss}. */
  readonly auxiliaryLoss?: Tensor | undefined;
}

export interface ForwardOutputs {
  /**
   * Of the language-model heads [B,T,V], or [B,V] with `lastIndex`, [B,R,V] with `rows`. `next-sentence`: [B,2] (class 0: the second
   * text follows); `sequence-classification`: [B,labels]; `token-classification`: [B,T,labels]; `question-answering`: [B,T,2], where
   * the answer begins and ends; `none`: the last hidden states [B,T,D].
   */
  readonly logits: Tensor;
  /** [B,2], head `pretraining`. */
  readonly nextSentence?: Tensor | undefined;
  /** [B,D], head `none` of a model with a pooler. */
  readonly pooled?: Tensor | undefined;
  /** float32 scalar: what training adds to the mean loss of the tokens, e.g. for experts evenly used. */
  readonly auxiliaryLoss?: Tensor | undefined;
  /** Present when a cache went in. */
  readonly cache?: Cache | undefined;
}

/** One architecture. Each is a file that calls {@link defineModel}; nothing else in the system knows its name. */
export interface ModelFamily<C extends ModelConfig = ModelConfig> {
  /** `model_type` of config.json. */
  readonly modelType: string;
  /**
   * "decoder" (the default): a token sees what is before it, logits predict the next token. "encoder": a token sees all of its
   * row or document, logits predict the token itself; no cache, no generation. "encoder-decoder": a decoder that also sees all of a
   * source, which an encoder has read.
   */
  readonly kind?: "decoder" | "encoder" | "encoder-decoder";
  /** `architectures` of config.json: the reference's class of the language model. */
  readonly architecture: string;
  /** Every head there is, with its class; absent: the language-model head alone. `config.head` says which a model has. */
  readonly heads?: HeadClasses;
  /** Checks config.json. Throws PlinthError; an unknown key is an error naming the nearest. */
  parseConfig(json: unknown): C;
  /** config.json contents, with the reference's keys. */
  formatConfig(config: C): Record<string, unknown>;
  /** Keys of config.json that the reference takes with a decimal point only, a whole number or not: 30.0. */
  readonly floatKeys?: readonly string[];
  /** The config of a new model. */
  createConfig(dials: ModelDials): C;
  /** Every parameter under its checkpoint name, in the order of the forward pass. */
  parameters(config: C): Record<string, ParameterSpec>;
  /**
   * tokens[B,T] -> logits[B,T,V]; pure, over symbolic tensors. `params` is the tree of {@link parameters} by dotted
   * path, possibly with wrapped modules. Throws when the sequence is longer than the model's context.
   */
  forward(params: Tree<Tensor>, inputs: ForwardInputs, config: C, context?: ForwardContext): ForwardOutputs;
  /**
   * The forward pass short of the product with the head, so that a loss need not hold all logits. Absent, or undefined,
   * where the logits are more than that product (an adapted head). Reads neither cache nor `lastIndex`.
   */
  hidden?(params: Tree<Tensor>, inputs: ForwardInputs, config: C, context?: ForwardContext): HiddenOutputs | undefined;
  cacheShape(config: C, batch: number, length: number): Record<string, Shape>;
  /** Encoder-decoders: what the decoder needs of `source` and `sourceSegments`, to be computed once per text. */
  readSource?(params: Tree<Tensor>, inputs: ForwardInputs, config: C, context?: ForwardContext): Cache;
  readonly checkpoint: CheckpointNaming<C>;
}

/** Differences between checkpoints in the wild and {@link ModelFamily.parameters}. */
export interface CheckpointNaming<C extends ModelConfig = ModelConfig> {
  /** A prefix that some checkpoints leave out, e.g. `transformer.`. */
  readonly optionalPrefix?: string;
  /** Copies of a parameter that a checkpoint may hold under a second name: `{copy: parameter}`. */
  tied(config: C): Readonly<Record<string, string>>;
  /** Stored by old checkpoints, computed here: causal masks, rotary frequencies. Kept and written back. */
  readonly inert: RegExp;
}

const families = new Map<string, ModelFamily>();

/** Registers an architecture and returns it. Throws when its `modelType` is taken. */
export function defineModel<C extends ModelConfig>(family: ModelFamily<C>): ModelFamily<C> {
  if (families.has(family.modelType)) throw new Error(`defineModel: "${family.modelType}" is defined twice.`);
  families.set(family.modelType, family as unknown as ModelFamily);
  return family;
}

/** All architectures, in order of definition. The contract suite runs over this. */
export function modelFamilies(): readonly ModelFamily[] {
  return [...families.values()];
}

/** The architecture called `modelType`. Throws PlinthError naming those there are. */
export function modelFamily(modelType: string, where = "model"): ModelFamily {
  const family = families.get(modelType);
  if (family !== undefined) return family;
  const names = [...families.keys()];
  const near = nearestName(modelType, names);
  throw new PlinthError(
    `${where}: model_type "${modelType}" is not supported${near === undefined ? "" : ` (did you mean "${near}"?)`}`,
    `use one of ${names.join(", ")}, or add a file for it as docs/add-a-model.md shows`,
  );
}

/** Throws PlinthError where `what` needs a model whose tokens continue a text, and this one does something else. */
export function expectDecoder(family: ModelFamily, what: string, config?: ModelConfig): void {
  if (family.kind === undefined || family.kind === "decoder") {
    if (config !== undefined) expectLanguageModel(config, what);
    return;
  }
  const does =
    family.kind === "encoder"
      ? "an encoder, which does not predict the next token"
      : "an encoder-decoder, which answers a text rather than continues it";
  throw new PlinthError(`${what}: ${family.modelType} is ${does}`, "use a decoder (gpt2, llama)");
}

/** Throws PlinthError where a model cannot write a text. */
export function expectGenerator(family: ModelFamily, config?: ModelConfig): void {
  if (family.kind !== "encoder-decoder") expectDecoder(family, "generate", config);
}

function expectLanguageModel(config: ModelConfig, what: string): void {
  const { kind } = headOf(config);
  if (kind === "lm") return;
  throw new PlinthError(
    `${what}: this ${config.modelType} has the head "${kind}", which predicts no tokens`,
    "use the model that it was trained from",
  );
}
