import { PlinthError } from "../../base/index.ts";
import {
  type Batch,
  type BatchSource,
  ignoreIndex,
  type JsonValue,
  randomFor,
  type Tokenizer,
} from "../../data/index.ts";
import { constant, gather, type HostRandom, less, maximum, NdArray, select } from "../../engine/index.ts";
import type { Model } from "../../models/index.ts";
import type { LossFunction, TrainBatch, TrainData } from "../types.ts";
import { causalLm } from "./causal-lm.ts";
import { definePretraining, requiredTokenizer } from "./pretraining.ts";

export interface SpanCorruptionOptions {
  /** Ids that stand for the spans that were taken out, in the order of the spans. */
  readonly sentinelIds: readonly number[];
  /** Ends a target. */
  readonly eosId: number;
  /** What the decoder is given before the first token. */
  readonly startId: number;
  /** UTF-8 bytes of each id. */
  readonly tokenBytes: Uint16Array;
  /** Share of the tokens that are taken out; default 0.15. */
  readonly rate?: number;
  /** Mean length of a span; default 3. */
  readonly meanSpan?: number;
}

/** One document as an encoder-decoder learns from it. */
export interface CorruptedText {
  /** The text with a sentinel in place of every span. */
  readonly source: readonly number[];
  /** Every sentinel with the span that it stands for, and the end of the text. */
  readonly target: readonly number[];
}

/** Tokens and spans to take out of a text of `length` tokens. */
function corruptionOf(length: number, { sentinelIds, rate = 0.15, meanSpan = 3 }: SpanCorruptionOptions) {
  const taken = Math.min(Math.max(1, Math.round(length * rate)), length - 1);
  const spans = Math.max(1, Math.min(Math.round(taken / meanSpan), taken, length - taken, sentinelIds.length));
  return { taken, spans, sourceLength: length - taken + spans, targetLength: taken + spans + 1 };
}

/**
 * Takes random spans out of a text of at least two tokens (Raffel et al. 2020, 3.1.4): text and spans take turns, their
 * lengths are a random division of what each has in all, the text begins.
 */
export function corruptSpans(
  ids: ArrayLike<number>,
  random: HostRandom,
  options: SpanCorruptionOptions,
): CorruptedText {
  const { taken, spans } = corruptionOf(ids.length, options);
  const [kept, gone] = [divide(ids.length - taken, spans, random), divide(taken, spans, random)];
  const [source, target]: [number[], number[]] = [[], []];
  let at = 0;
  for (let i = 0; i < spans; i++) {
    for (const end = at + (kept[i] as number); at < end; at++) source.push(ids[at] as number);
    const sentinel = options.sentinelIds[i] as number;
    source.push(sentinel);
    target.push(sentinel);
    for (const end = at + (gone[i] as number); at < end; at++) target.push(ids[at] as number);
  }
  target.push(options.eosId);
  return { source, target };
}

/** `total` as a sum of `parts` whole numbers above 0, every such sum as likely as any other. */
function divide(total: number, parts: number, random: HostRandom): number[] {
  const places = random.shuffle(Array.from({ length: total - 1 }, (_, i) => i + 1)).slice(0, parts - 1);
  const cuts = [0, ...places.sort((a, b) => a - b), total];
  return Array.from({ length: parts }, (_, i) => (cuts[i + 1] as number) - (cuts[i] as number));
}

/**
 * A batch of texts [B,T] as sources [B,T] and what is to be written [B,T/4+8]. Documents side by side stay apart; where
 * what is made of them does not fit, the last one is cut. Draws from (seed, number of the batch) alone.
 */
export function spanCorruptionBatch(
  batch: Batch,
  options: SpanCorruptionOptions,
  { seed, number }: { seed: number; number: number },
): TrainBatch {
  const [B, S] = batch.tokens.shape as [number, number];
  const T = Math.ceil(S / 4) + 8;
  const random = randomFor(seed, number);
  const source = new Int32Array(B * S);
  const sourceSegments = new Int32Array(B * S);
  const tokens = new Int32Array(B * T);
  const segments = new Int32Array(B * T);
  const targets = new Int32Array(B * T).fill(ignoreIndex);
  let [tokenCount, byteCount] = [0, 0];
  for (let b = 0; b < B; b++) {
    let [from, to] = [b * S, b * T];
    for (const [i, text] of documentsOf(batch, b).entries()) {
      const room = { source: (b + 1) * S - from, target: (b + 1) * T - to };
      let length = text.length;
      while (length >= 2 && !fits(corruptionOf(length, options), room)) length--;
      if (length < 2) continue;
      const made = corruptSpans(text.subarray(0, length), random, options);
      source.set(made.source, from);
      sourceSegments.fill(i + 1, from, from + made.source.length);
      tokens.set([options.startId, ...made.target.slice(0, -1)], to);
      targets.set(made.target, to);
      segments.fill(i + 1, to, to + made.target.length);
      from += made.source.length;
      to += made.target.length;
      tokenCount += made.target.length;
      for (const id of made.target)
        byteCount += options.sentinelIds.includes(id) ? 0 : (options.tokenBytes[id] as number);
    }
  }
  const arrays = {
    source: NdArray.int32([B, S], source),
    sourceSegments: NdArray.int32([B, S], sourceSegments),
    tokens: NdArray.int32([B, T], tokens),
    segments: NdArray.int32([B, T], segments),
    targets: NdArray.int32([B, T], targets),
  };
  return { arrays, tokenCount, byteCount };
}

function fits(
  { sourceLength, targetLength }: { sourceLength: number; targetLength: number },
  room: { source: number; target: number },
): boolean {
  return sourceLength <= room.source && targetLength <= room.target;
}

/** The documents of a row, without padding. */
function documentsOf({ tokens, segments }: Batch, row: number): Int32Array[] {
  const T = tokens.shape[1] as number;
  const ids = (tokens.data as Int32Array).subarray(row * T, (row + 1) * T);
  const marks = segments?.data.slice(row * T, (row + 1) * T);
  if (marks === undefined) return [ids];
  const documents: Int32Array[] = [];
  for (let from = 0, to = 0; from < T; from = to) {
    while (to < T && marks[to] === marks[from]) to++;
    if (marks[from] !== 0) documents.push(ids.subarray(from, to));
  }
  return documents;
}

/** What span corruption needs to know of a model. Throws PlinthError where its tokenizer has no sentinels. */
export function spanCorruptionOf(model: Model): SpanCorruptionOptions {
  const tokenizer = requiredTokenizer(model, "span");
  const sentinelIds = sentinelsOf(tokenizer);
  const eosId = tokenizer.eosId ?? model.config.eosTokenIds[0];
  if (eosId === undefined) {
    throw new PlinthError(
      "objective span: the tokenizer has no end-of-text token",
      "train one with `</s>` among the special tokens",
    );
  }
  return { sentinelIds, eosId, startId: model.config.decoderStartTokenId ?? 0, tokenBytes: tokenizer.tokenBytes };
}

function sentinelsOf(tokenizer: Tokenizer): number[] {
  const ids: number[] = [];
  for (;;) {
    const id = tokenizer.tokenToId(`<extra_id_${ids.length}>`);
    if (id === undefined) break;
    ids.push(id);
  }
  if (ids.length > 0) return ids;
  throw new PlinthError(
    "objective span: the tokenizer has no sentinels (<extra_id_0>, <extra_id_1>, ...)",
    "train one with them among the special tokens, or use the tokenizer of a T5",
  );
}

definePretraining({
  name: "span",
  summary: "write the spans that were taken out of a text (encoder-decoders)",
  defaultOf: "encoder-decoder",
  prepare(model, { remat, assemble, seed = 0 }) {
    const { family, config } = model;
    if (family.kind !== "encoder-decoder") {
      throw new PlinthError(
        `objective span: ${family.modelType} does not read a source`,
        "use an encoder-decoder such as t5",
      );
    }
    const options = spanCorruptionOf(model);
    return {
      loss: spanLoss(causalLm(family, config, { remat, assemble }), options, config.vocabSize),
      data: (source) => corruptedData(source, options, seed),
      heldOut: (batches) =>
        async function* () {
          let number = 0;
          for await (const batch of batches)
            yield spanCorruptionBatch(batch, options, { seed: heldOutSeed, number: number++ });
        },
    };
  },
});

/** The same loss; as predictions count the words of the spans alone, for sentinels and ends come by themselves. */
function spanLoss(loss: LossFunction, { sentinelIds, eosId }: SpanCorruptionOptions, vocabSize: number): LossFunction {
  const isWord = new Float32Array(vocabSize).fill(1);
  for (const id of [...sentinelIds, eosId]) isWord[id] = 0;
  return (...given) => {
    const { predictions, ...sums } = loss(...given);
    if (predictions === undefined) return sums;
    return {
      ...sums,
      predictions: () => {
        const { logits, targets } = predictions();
        const counts = gather(constant(isWord), maximum(targets, 0));
        return { logits, targets: select(less(0, counts), targets, ignoreIndex) };
      },
    };
  };
}

/** Measuring always takes out the same. */
const heldOutSeed = 0x68656c64;

function corruptedData(source: BatchSource, options: SpanCorruptionOptions, seed: number): TrainData {
  let number = 0;
  return {
    next: async () => spanCorruptionBatch(await source.next(), options, { seed, number: number++ }),
    state: () => ({ number, source: source.state() }),
    restore(state) {
      const saved = state as { number: number; source: JsonValue };
      number = saved.number;
      source.restore(saved.source);
    },
  };
}
