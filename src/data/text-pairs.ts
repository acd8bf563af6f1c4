import { PlinthError } from "../base/index.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** A text, or two that are read together: a question and a passage, a premise and a hypothesis. */
export interface TextPair {
  readonly text: string;
  readonly pair?: string | undefined;
}

/** A text or pair as a model reads it. */
export interface EncodedPair {
  readonly ids: Int32Array;
  /** 0 for the tokens of the first text and what stands around it, 1 for those of the second. */
  readonly types: Uint8Array;
  /** Whether something had to be left out. */
  readonly isCut: boolean;
}

/** The tokens around texts: `begin A end` and `begin A end B end`, or RoBERTa's `begin A end end B end`. */
export interface PairTokens {
  readonly begin: readonly number[];
  readonly end: readonly number[];
  readonly between: readonly number[];
  readonly pad: number;
}

/**
 * What a tokenizer puts around texts: [CLS] and [SEP], or whatever begins and ends a text by its config. A tokenizer without
 * such tokens puts nothing. Throws PlinthError when texts cannot be told apart for `pairs`.
 */
export function pairTokens(tokenizer: Tokenizer, { pairs = false }: { pairs?: boolean } = {}): PairTokens {
  const named = (...names: string[]): number | undefined =>
    names.map((name) => tokenizer.tokenToId(name)).find((id) => id !== undefined);
  const begin = named("[CLS]", "<s>") ?? tokenizer.bosId;
  const end = named("[SEP]", "</s>") ?? tokenizer.eosId;
  if (pairs && end === undefined) {
    throw new PlinthError(
      "the tokenizer has no token between two texts",
      "train one with [SEP] among its special tokens",
    );
  }
  const list = (id: number | undefined): number[] => (id === undefined ? [] : [id]);
  const isRoberta = (tokenizer.json.post_processor as { type?: string } | null)?.type === "RobertaProcessing";
  return {
    begin: list(begin),
    end: list(end),
    between: isRoberta ? [...list(end), ...list(end)] : list(end),
    pad: tokenizer.padId ?? named("[PAD]", "<pad>") ?? end ?? 0,
  };
}

/**
 * Texts and pairs with the tokens around them. The longer text of a pair loses its end first where `context` is too short.
 * `closed`: a token stands behind the last text too, which is the default.
 */
export async function encodePairs(
  tokenizer: Tokenizer,
  texts: readonly TextPair[],
  { context, closed = true }: { readonly context: number; readonly closed?: boolean },
): Promise<EncodedPair[]> {
  const around = pairTokens(tokenizer, { pairs: texts.some(({ pair }) => pair !== undefined) });
  const open = { ...around, end: [] };
  const first = await tokenizer.encodeBatch(
    texts.map(({ text }) => text),
    { literal: true },
  );
  const second = await tokenizer.encodeBatch(
    texts.map(({ pair }) => pair ?? ""),
    { literal: true },
  );
  return texts.map(({ pair }, i) => {
    const own = first[i] as Int32Array;
    // Of no text at all there would be nothing to read.
    const tokens = closed || own.length === 0 ? around : open;
    return joinPair(own, pair === undefined ? undefined : (second[i] as Int32Array), tokens, context);
  });
}

/** Two encoded texts (or one) as one row of at most `context` tokens. */
export function joinPair(
  first: ArrayLike<number>,
  second: ArrayLike<number> | undefined,
  { begin, end, between }: PairTokens,
  context: number,
): EncodedPair {
  const around = begin.length + end.length + (second === undefined ? 0 : between.length);
  const room = Math.max(0, context - around);
  let [a, b] = [first.length, second?.length ?? 0];
  const isCut = a + b > room;
  // What both can keep is split evenly; a text that needs less leaves the rest to the other.
  if (isCut) {
    a = Math.min(a, Math.max(room - b, Math.ceil(room / 2)));
    b = Math.min(b, room - a);
  }
  const head = [...begin, ...Array.from(first).slice(0, a), ...(second === undefined ? end : between)];
  const tail = second === undefined ? [] : [...Array.from(second).slice(0, b), ...end];
  const types = new Uint8Array(head.length + tail.length).fill(1, head.length);
  return { ids: Int32Array.from([...head, ...tail]), types, isCut };
}
