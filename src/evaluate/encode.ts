import { PlinthError } from "../base/index.ts";
import type { Tokenizer } from "../data/index.ts";
import { encodePrompts, ignoreTarget, modelBosId, type ScoreRequest } from "../generate/index.ts";
import type { Model } from "../models/index.ts";

export function requireTokenizer(model: Model): Tokenizer {
  if (model.tokenizer !== undefined) return model.tokenizer;
  throw new PlinthError(
    "the model has no tokenizer.json, and evaluating on text needs it",
    "put tokenizer.json into the model's folder",
  );
}

/** A continuation and the context before it. */
export interface Pair {
  readonly context: string;
  readonly continuation: string;
  /** Names the item in errors. */
  readonly where: string;
}

/** A pair as the model sees it. */
export interface EncodedPair {
  readonly request: ScoreRequest;
  /** Tokens scored. */
  readonly count: number;
  /** Whether the context's beginning had to be left out. */
  readonly isCut: boolean;
}

/**
 * Tokens of contexts and their continuations, encoded as one text and split after the tokens that the context has by
 * itself, so that a word at the seam has the tokens it would have in running text. Spaces that end the context belong
 * to the continuation. As in lm-evaluation-harness (`TemplateLM._encode_pair`), save where the seam falls within a
 * token: here that token is scored, there it is lost. Throws PlinthError when the continuation alone exceeds the
 * context, or there is nothing before it to predict it from.
 */
export async function encodePairs(model: Model, pairs: readonly Pair[]): Promise<EncodedPair[]> {
  const tokenizer = requireTokenizer(model);
  const contexts = pairs.map(({ context }) => context.trimEnd());
  const before = await encodePrompts(tokenizer, contexts);
  const whole = await encodePrompts(
    tokenizer,
    pairs.map(({ context, continuation }) => context + continuation),
  );
  return pairs.map(({ where }, i) => splitPair(model, before[i] as Int32Array, whole[i] as Int32Array, where));
}

function splitPair(model: Model, before: Int32Array, joint: Int32Array, where: string): EncodedPair {
  let whole = joint;
  let split = 0;
  while (split < before.length && split < whole.length && before[split] === whole[split]) split++;
  if (split === 0) {
    const bos = modelBosId(model);
    if (bos === undefined) {
      throw new PlinthError(
        `${where}: the prompt is empty, and the model has no beginning-of-text token to start from`,
        "give a prompt",
      );
    }
    whole = Int32Array.from([bos, ...whole]);
    split = 1;
  }
  const room = model.config.contextLength;
  const count = whole.length - split;
  if (count > room) {
    throw new PlinthError(
      `${where}: the answer has ${count} tokens, more than the model's context of ${room}`,
      "shorten it, or leave the item out",
    );
  }
  const start = Math.max(0, whole.length - (room + 1));
  const tokens = whole.slice(start, -1);
  const targets = new Int32Array(tokens.length).fill(ignoreTarget);
  targets.set(whole.subarray(split), split - 1 - start);
  return { request: { tokens, targets }, count, isCut: start > 0 };
}

/** A text cut into windows of the model's context. */
export interface EncodedText {
  /** Every token is a target in exactly one window. */
  readonly windows: readonly ScoreRequest[];
  readonly tokenCount: number;
  /** UTF-8 bytes of the text that the targets stand for. */
  readonly byteCount: number;
}

/**
 * Windows over texts: each goes on `overlap` tokens before the first token it scores, so that this one too has a
 * context. A beginning-of-text token (else end-of-text) stands before the text; a model that has neither cannot score
 * the first token, whose bytes are then not counted.
 */
export async function encodeTexts(model: Model, texts: readonly string[], overlap: number): Promise<EncodedText[]> {
  const tokenizer = requireTokenizer(model);
  const bos = modelBosId(model);
  const encoded = await tokenizer.encodeBatch(texts, { literal: true });
  return encoded.map((ids, i) => {
    const all = bos === undefined ? ids : Int32Array.from([bos, ...ids]);
    const unscored = bos === undefined ? (tokenizer.tokenBytes[ids[0] ?? -1] ?? 0) : 0;
    return {
      windows: cutWindows(all, model.config.contextLength, overlap),
      tokenCount: Math.max(0, all.length - 1),
      byteCount: Buffer.byteLength(texts[i] as string) - unscored,
    };
  });
}

/** Windows of at most `room` tokens over a sequence, in which every token but the first is a target exactly once. */
export function cutWindows(sequence: Int32Array, room: number, overlap: number): ScoreRequest[] {
  const windows: ScoreRequest[] = [];
  // targets up to the position `scored` are done
  for (let scored = 0; scored < sequence.length - 1; ) {
    const from = scored === 0 ? 0 : scored - overlap;
    const to = Math.min(sequence.length - 1, from + room);
    const targets = sequence.slice(from + 1, to + 1);
    targets.fill(ignoreTarget, 0, scored - from);
    windows.push({ tokens: sequence.slice(from, to), targets });
    scored = to;
  }
  return windows;
}
