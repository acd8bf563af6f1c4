import { randomInt } from "node:crypto";
import { PlinthError } from "../base/index.ts";
import { HostRandom } from "../engine/index.ts";
import type { Model } from "../models/index.ts";
import {
  checkOptions,
  type EndEvent,
  type FinishReason,
  type GenerateOptions,
  type Generation,
  type Prompt,
  type TokenEvent,
  type TokenLogprob,
} from "./options.ts";
import { logSoftmax, nextTokenDistribution, pick, topIds } from "./sampler.ts";
import { StopMatcher } from "./stop-matcher.ts";
import { TextStream } from "./text-stream.ts";

const defaultMaxTokens = 256;

/** One prompt on its way: its tokens so far, its random stream, its text, its end. Knows nothing of other requests. */
export class Request {
  readonly index: number;
  readonly promptTokens: Int32Array;
  readonly options: GenerateOptions;
  readonly maxTokens: number;
  finishReason: FinishReason | undefined;
  readonly #prompt: string | undefined;
  readonly #seed: number;
  readonly #random: HostRandom;
  readonly #eosIds: ReadonlySet<number>;
  readonly #stream: TextStream | undefined;
  readonly #stops: StopMatcher;
  readonly #seen: Set<number>;
  readonly #tokens: number[] = [];
  readonly #logprobs: number[] = [];
  readonly #topLogprobs: (readonly TokenLogprob[])[] = [];
  #text = "";
  #startedMs = performance.now();
  #firstTokenMs = 0;

  /** Throws PlinthError when the prompt does not suit the model or an option is out of range. */
  constructor(model: Model, index: number, prompt: Prompt, shared: GenerateOptions) {
    const own = typeof prompt === "object" && "prompt" in prompt ? prompt : { prompt };
    const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
    this.options = { ...shared, ...given };
    checkOptions(this.options);
    this.index = index;
    this.#prompt = typeof own.prompt === "string" ? own.prompt : undefined;
    this.promptTokens = promptTokens(model, index, own.prompt, this.options.addSpecialTokens ?? true);
    const stop = this.options.stop ?? [];
    if (stop.length > 0 && model.tokenizer === undefined) throw noTokenizer("stop strings need a tokenizer");
    const context = model.config.contextLength;
    // the last token needs no place in the context: nothing is computed from it
    this.maxTokens = Math.min(this.options.maxTokens ?? defaultMaxTokens, context - this.promptTokens.length + 1);
    this.#seed = this.options.seed ?? randomInt(2 ** 31);
    this.#random = new HostRandom(this.#seed);
    this.#eosIds = new Set(this.options.eosIds ?? modelEosIds(model));
    this.#stream = model.tokenizer && new TextStream(model.tokenizer, [...this.promptTokens]);
    this.#stops = new StopMatcher(stop);
    this.#seen = new Set(this.options.repetitionPenalty === undefined ? [] : this.promptTokens);
    if (this.maxTokens === 0) this.finishReason = "length";
    if (this.options.echo === true) this.#text = this.#prompt ?? model.tokenizer?.decode([...this.promptTokens]) ?? "";
  }

  /** Position of the token sampled last. */
  get position(): number {
    return this.promptTokens.length + this.#tokens.length - 1;
  }

  get lastToken(): number {
    return this.#tokens.at(-1) as number;
  }

  /** Chooses the next token from the logits[V] that follow the text so far. Sets `finishReason` when it was the last. */
  advance(logits: Float32Array): TokenEvent {
    const distribution = nextTokenDistribution(logits, this.options, this.#seen);
    const id = pick(distribution, distribution.ids.length > 1 ? this.#uniform() : 0);
    if (this.#tokens.length === 0) this.#firstTokenMs = performance.now();
    this.#tokens.push(id);
    if (this.options.repetitionPenalty !== undefined) this.#seen.add(id);
    const scores = this.options.logprobs === undefined ? {} : this.#score(logits, id, this.options.logprobs);

    let text = "";
    if (this.#eosIds.has(id)) {
      this.finishReason = "eos";
    } else {
      const found = this.#stops.push(this.#stream?.push(id) ?? "");
      text = found.text;
      if (found.stopped) this.finishReason = "stop";
      else if (this.#tokens.length >= this.maxTokens) this.finishReason = "length";
    }
    this.#text += text;
    return { type: "token", index: this.index, id, text, ...scores };
  }

  /** The closing event. Call once, after `finishReason` is set. */
  end(promptLogprobs?: readonly (number | null)[]): EndEvent {
    const finishReason = this.finishReason ?? "aborted";
    let text = "";
    if (finishReason !== "stop") {
      const found = this.#stops.push(this.#stream?.flush() ?? "");
      text = found.text + (found.stopped ? "" : this.#stops.flush());
    }
    this.#text += text;
    const now = performance.now();
    const count = this.#tokens.length;
    const seconds = (count > 1 ? now - this.#firstTokenMs : now - this.#startedMs) / 1000;
    const result: Generation = {
      index: this.index,
      ...(this.#prompt === undefined ? {} : { prompt: this.#prompt }),
      promptTokens: [...this.promptTokens],
      text: this.#text,
      tokens: this.#tokens,
      ...(this.options.logprobs === undefined ? {} : { logprobs: this.#logprobs }),
      ...((this.options.logprobs ?? 0) > 0 ? { topLogprobs: this.#topLogprobs } : {}),
      ...(promptLogprobs === undefined ? {} : { promptLogprobs }),
      finishReason,
      seed: this.#seed,
      tokensPerSecond: count === 0 ? 0 : (count > 1 ? count - 1 : count) / Math.max(seconds, 1e-9),
    };
    return { type: "end", index: this.index, text, result };
  }

  /** 48 random bits: with 24 the least likely tokens of a large vocabulary would come never or too often. */
  #uniform(): number {
    return this.#random.uniform() + this.#random.uniform() * 2 ** -24;
  }

  #score(logits: Float32Array, id: number, n: number): Pick<TokenEvent, "logprob" | "topLogprobs"> {
    const logprobs = logSoftmax(logits);
    const logprob = logprobs[id] as number;
    this.#logprobs.push(logprob);
    if (n === 0) return { logprob };
    const topLogprobs = topIds(logprobs, n).map((top) => ({ id: top, logprob: logprobs[top] as number }));
    this.#topLogprobs.push(topLogprobs);
    return { logprob, topLogprobs };
  }
}

/** Ids that end a text of this model: of its generation settings, its config, its tokenizer, whichever names any first. */
export function modelEosIds(model: Model): readonly number[] {
  if (model.config.eosTokenIds.length > 0) return model.config.eosTokenIds;
  return model.tokenizer?.eosId === undefined ? [] : [model.tokenizer.eosId];
}

/** The token that stands before a text: beginning-of-text, else end-of-text, which ends the text before it. */
export function modelBosId(model: Model): number | undefined {
  return model.tokenizer?.bosId ?? model.config.bosTokenId ?? modelEosIds(model)[0];
}

function promptTokens(
  model: Model,
  index: number,
  prompt: string | readonly number[] | Int32Array,
  addSpecialTokens: boolean,
): Int32Array {
  let ids: Int32Array;
  if (typeof prompt === "string") {
    if (model.tokenizer === undefined) throw noTokenizer("a text prompt needs a tokenizer");
    ids = model.tokenizer.encode(prompt, { addSpecialTokens });
  } else {
    prompt.forEach((id, position) => {
      checkId(id, position, index, model.config.vocabSize);
    });
    ids = Int32Array.from(prompt);
  }
  if (ids.length === 0) {
    const bos = modelBosId(model);
    if (bos === undefined) {
      throw new PlinthError(
        `prompt ${index + 1} is empty, and the model has no beginning-of-text token to start from`,
        "give at least one word",
      );
    }
    ids = Int32Array.of(bos);
  }
  if (typeof prompt === "string") {
    ids.forEach((id, position) => {
      checkId(id, position, index, model.config.vocabSize);
    });
  }
  const context = model.config.contextLength;
  if (ids.length > context) {
    throw new PlinthError(
      `prompt ${index + 1} has ${ids.length} tokens, but the model's context is ${context}`,
      "shorten the prompt, or use a model with a longer context",
    );
  }
  return ids;
}

function checkId(id: number, position: number, index: number, vocabSize: number): void {
  if (Number.isInteger(id) && id >= 0 && id < vocabSize) return;
  throw new PlinthError(
    `prompt ${index + 1}: token id ${id} at position ${position} is outside the model's vocabulary of ${vocabSize}`,
    "encode the prompt with the tokenizer that belongs to the model",
  );
}

function noTokenizer(what: string): PlinthError {
  return new PlinthError(`the model has no tokenizer.json, but ${what}`, "put tokenizer.json into the model's folder, or give token ids");
}
