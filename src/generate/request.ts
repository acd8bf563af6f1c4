import { randomInt } from "node:crypto";
import type { StreamDecoder } from "../data/index.ts";
import { HostRandom } from "../engine/index.ts";
import type { Model } from "../models/index.ts";
import type { EndEvent, FinishReason, GenerateOptions, Generation, TokenEvent, TokenLogprob } from "./options.ts";
import { modelEosIds, type ResolvedPrompt } from "./prompts.ts";
import { logSoftmax, nextTokenDistribution, pick, topIds } from "./sampler.ts";
import { StopMatcher } from "./stop-matcher.ts";

const defaultMaxTokens = 256;

/** One prompt on its way: its tokens so far, its random stream, its text, its end. Knows nothing of other requests. */
export class Request {
  readonly prompt: ResolvedPrompt;
  readonly maxTokens: number;
  finishReason: FinishReason | undefined;
  readonly #model: Model;
  readonly #options: GenerateOptions;
  readonly #seed: number;
  readonly #random: HostRandom;
  readonly #eosIds: ReadonlySet<number>;
  readonly #stream: StreamDecoder | undefined;
  readonly #stops: StopMatcher;
  readonly #seen: Set<number>;
  /** Position of the first token to be chosen. */
  readonly #first: number;
  readonly #tokens: number[] = [];
  readonly #logprobs: number[] = [];
  readonly #topLogprobs: (readonly TokenLogprob[])[] = [];
  readonly #startedMs = performance.now();
  #firstTokenMs = 0;
  #text = "";

  constructor(model: Model, prompt: ResolvedPrompt) {
    const { options, ids } = prompt;
    this.prompt = prompt;
    this.#model = model;
    this.#options = options;
    // What an encoder-decoder was given is not part of what it writes.
    const before = model.family.kind === "encoder-decoder" ? new Int32Array() : ids;
    this.#first = Math.max(1, before.length);
    // the last token needs no place in the context: nothing is computed from it
    this.maxTokens = Math.min(options.maxTokens ?? defaultMaxTokens, model.config.contextLength - this.#first + 1);
    if (this.maxTokens === 0) this.finishReason = "length";
    this.#seed = options.seed ?? randomInt(2 ** 31);
    this.#random = new HostRandom(this.#seed);
    this.#eosIds = new Set(options.eosIds ?? modelEosIds(model));
    this.#stream = model.tokenizer?.streamDecoder({ prefix: before.filter((id) => hasText(model, id)) });
    this.#stops = new StopMatcher(options.stop ?? []);
    this.#seen = new Set(before);
  }

  /** Position of the token sampled last. */
  get position(): number {
    return this.#first + this.#tokens.length - 1;
  }

  get lastToken(): number {
    return this.#tokens.at(-1) as number;
  }

  /** Chooses the next token from the logits[V] that follow the text so far. Sets `finishReason` when it was the last. */
  async advance(logits: Float32Array): Promise<TokenEvent> {
    const distribution = nextTokenDistribution(logits, this.#options, this.#seen);
    const id = pick(distribution, distribution.ids.length > 1 ? this.#uniform() : 0);
    if (this.#tokens.length === 0) this.#firstTokenMs = performance.now();
    this.#tokens.push(id);
    this.#seen.add(id);
    const scores = this.#options.logprobs === undefined ? {} : this.#score(logits, id, this.#options.logprobs);

    let text = "";
    if (this.#eosIds.has(id)) {
      this.finishReason = "eos";
    } else {
      const piece = hasText(this.#model, id) ? await this.#stream?.push(id) : undefined;
      const found = this.#stops.push(piece ?? "");
      text = found.text;
      if (found.stopped) this.finishReason = "stop";
      else if (this.#tokens.length >= this.maxTokens) this.finishReason = "length";
    }
    this.#text += text;
    return { type: "token", index: this.prompt.index, id, text, ...scores };
  }

  /** The closing event. Call once, after `finishReason` is set. */
  async end(promptLogprobs?: readonly (number | null)[]): Promise<EndEvent> {
    const seconds = this.#seconds();
    let text = "";
    if (this.finishReason !== "stop") {
      const found = this.#stops.push((await this.#stream?.flush()) ?? "");
      text = found.text;
      if (found.stopped && this.finishReason !== "aborted") this.finishReason = "stop";
      if (!found.stopped) text += this.#stops.flush();
    }
    this.#text += text;
    const { index, text: prompt, ids } = this.prompt;
    const { logprobs, echo } = this.#options;
    const count = this.#tokens.length;
    const result: Generation = {
      index,
      ...(prompt === undefined ? {} : { prompt }),
      promptTokens: [...ids],
      text: echo === true ? (prompt ?? (await decodeKnown(this.#model, ids))) + this.#text : this.#text,
      tokens: this.#tokens,
      ...(logprobs === undefined ? {} : { logprobs: this.#logprobs }),
      ...((logprobs ?? 0) > 0 ? { topLogprobs: this.#topLogprobs } : {}),
      ...(promptLogprobs === undefined ? {} : { promptLogprobs }),
      finishReason: this.finishReason ?? "aborted",
      seed: this.#seed,
      tokensPerSecond: count === 0 ? 0 : Math.max(1, count - 1) / seconds,
    };
    return { type: "end", index, text, result };
  }

  /** Since the first token, or since the beginning when there is no other. */
  #seconds(): number {
    const from = this.#tokens.length > 1 ? this.#firstTokenMs : this.#startedMs;
    return Math.max(1e-6, (performance.now() - from) / 1000);
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

async function decodeKnown(model: Model, ids: Int32Array): Promise<string> {
  const known = ids.filter((id) => hasText(model, id));
  return (await model.tokenizer?.decode(known, { skipSpecialTokens: true })) ?? "";
}

/** Whether the tokenizer knows an id; a model may have more rows than its tokenizer has tokens (padding). */
export function hasText(model: Model, id: number): boolean {
  return model.tokenizer?.idToToken(id) !== undefined;
}
