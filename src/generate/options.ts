import { PlinthError } from "../base/index.ts";
import type { RunOptions } from "./per-model.ts";

/** How the next token is chosen. The filters are those of Hugging Face transformers, applied in the order listed. */
export interface SamplingOptions {
  /** Divides the logits of every id already in the prompt or the text when positive, multiplies when negative; 1 = off. */
  readonly repetitionPenalty?: number | undefined;
  /**
   * Divides the logits; 0 always takes the likeliest token. Default: as the model's generation_config.json asks for
   * sampling (like the other settings here), else 1, the model's own distribution.
   */
  readonly temperature?: number | undefined;
  /** Keep the k likeliest tokens. */
  readonly topK?: number | undefined;
  /** Keep the smallest set of likeliest tokens whose probabilities add up to this (Holtzman et al. 2020). */
  readonly topP?: number | undefined;
  /** Keep tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024). */
  readonly minP?: number | undefined;
}

/** What may differ from one prompt of a batch to the next. */
export interface RequestOptions extends SamplingOptions {
  /** Tokens to generate at most; default 256. The model's context is a limit too. */
  readonly maxTokens?: number | undefined;
  /** The text ends before the first of these. */
  readonly stop?: readonly string[] | undefined;
  /** Random stream of the request: same seed, prompt and options give the same tokens, whatever else is in the batch. */
  readonly seed?: number | undefined;
  /** Ids that end the text; default those of the model's generation_config.json, config.json and tokenizer. */
  readonly eosIds?: readonly number[] | undefined;
}

export interface GenerateOptions extends RequestOptions, RunOptions {
  /** Report log-probabilities of the tokens, and of the n likeliest at each place (0 = the tokens alone). */
  readonly logprobs?: number | undefined;
  /** Begin with the prompt: its tokens as events, its text in the result, its log-probabilities where asked for. */
  readonly echo?: boolean | undefined;
  /** Encode text prompts as the tokenizer's post-processor says (a beginning-of-text token); default true. */
  readonly addSpecialTokens?: boolean | undefined;
  /** Ends all requests with finish reason `aborted`. */
  readonly signal?: AbortSignal | undefined;
}

/** A prompt: text, token ids, or either with options of its own. */
export type Prompt = string | readonly number[] | Int32Array | PromptRequest;

export interface PromptRequest extends RequestOptions {
  readonly prompt: string | readonly number[] | Int32Array;
}

/**
 * Why a text ended: the model said so (`eos`), a stop string came (`stop`), maxTokens or the model's context was
 * reached (`length`), or the caller gave up (`aborted`).
 */
export type FinishReason = "eos" | "stop" | "length" | "aborted";

/** A token and its log-probability (natural logarithm) under the model's own distribution, before any filter. */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** One finished request. */
export interface Generation {
  /** Position of the prompt in the call. */
  readonly index: number;
  /** The prompt as given; absent when it was token ids. */
  readonly prompt?: string;
  readonly promptTokens: readonly number[];
  /** The continuation, without stop string and special tokens; the prompt before it with `echo`. */
  readonly text: string;
  /** Ids of the continuation: all that were sampled, so also the one that ended it. */
  readonly tokens: readonly number[];
  /** Per token; present when asked for. */
  readonly logprobs?: readonly number[];
  /** Per token the likeliest, in falling order; present when asked for. */
  readonly topLogprobs?: readonly (readonly TokenLogprob[])[];
  /** Per prompt token given those before it (the first has none); present with `echo` and `logprobs`. */
  readonly promptLogprobs?: readonly (number | null)[];
  readonly finishReason: FinishReason;
  /** The seed used; drawn at random where none was given. */
  readonly seed: number;
  /** Rate after the first token; of the whole request where there is just one. */
  readonly tokensPerSecond: number;
}

export interface TokenEvent {
  readonly type: "token";
  readonly index: number;
  readonly id: number;
  /** Text that became certain with this token: whole characters, nothing that may turn out to be a stop string. */
  readonly text: string;
  readonly logprob?: number;
  readonly topLogprobs?: readonly TokenLogprob[];
  /** A token of the prompt (`echo`). */
  readonly isPrompt?: boolean;
}

export interface EndEvent {
  readonly type: "end";
  readonly index: number;
  /** Text that was held back until now. */
  readonly text: string;
  readonly result: Generation;
}

export type GenerateEvent = TokenEvent | EndEvent;

/** Throws PlinthError naming the first option that is out of range. */
export function checkOptions(options: GenerateOptions): void {
  const ranges: readonly [keyof GenerateOptions, (n: number) => boolean, string][] = [
    ["temperature", (n) => n >= 0 && Number.isFinite(n), "a number from 0 (always the likeliest token)"],
    ["topK", (n) => Number.isInteger(n) && n >= 1, "a whole number from 1"],
    ["topP", (n) => n > 0 && n <= 1, "a number above 0 and at most 1"],
    ["minP", (n) => n >= 0 && n <= 1, "a number from 0 to 1"],
    ["repetitionPenalty", (n) => n > 0 && Number.isFinite(n), "a number above 0 (1 = off)"],
    ["maxTokens", (n) => Number.isInteger(n) && n >= 0, "a whole number from 0"],
    ["seed", (n) => Number.isSafeInteger(n), "a whole number"],
    ["logprobs", (n) => Number.isInteger(n) && n >= 0, "a whole number from 0 (0 = the chosen tokens alone)"],
  ];
  for (const [name, isValid, expected] of ranges) {
    const value = options[name];
    if (value === undefined) continue;
    if (typeof value !== "number" || !isValid(value)) {
      throw new PlinthError(`generate: ${name} is ${String(value)}`, `give ${expected}`);
    }
  }
  if (options.stop?.some((stop) => stop.length === 0) === true) {
    throw new PlinthError("generate: an empty stop string stops before anything is said", "leave it out");
  }
}
