import type { Encoding, Tokenizer as NativeTokenizer } from "tokenizers";
import { PlinthError } from "../base/index.ts";

/** One text or a pair of texts as a model reads them; all lists have one item per token. */
export interface Encoded {
  readonly ids: Int32Array;
  /** Which part of the pair a token belongs to, as the tokenizer's post-processor has it (`token_type_ids`). */
  readonly typeIds: Int32Array;
  /** Span in UTF-16 units of the text that the token is from; [0, 0] for a token that the post-processor added. */
  readonly offsets: readonly (readonly [begin: number, end: number])[];
  /** 0 for tokens of the text, 1 for those of its pair, undefined for those that the post-processor added. */
  readonly sequences: readonly (0 | 1 | undefined)[];
  /** Number of the word in its text, as the pre-tokenizer splits it; undefined for tokens that were added. */
  readonly words: readonly (number | undefined)[];
}

export interface TruncateOptions {
  /** Most tokens, added ones included. What is longer loses its end; of a pair the longer text does. Default: no limit. */
  readonly maxLength?: number;
}

export interface WindowOptions {
  /** Most tokens of a window, the first text and added tokens included. */
  readonly maxLength: number;
  /** How many tokens of the second text neighbouring windows share. Default 0. */
  readonly stride?: number;
}

/**
 * A tokenizer, and the same without its post-processor, for what is put together here: applied a second time, a
 * post-processor would trim the spans again.
 */
export interface NativePair {
  readonly whole: NativeTokenizer;
  readonly bare: () => NativeTokenizer;
}

type Texts = readonly [text: string, pair?: string | undefined];

export async function encodeTexts(
  { whole, bare }: NativePair,
  texts: Texts,
  options: TruncateOptions & { readonly addSpecialTokens: boolean },
): Promise<Encoded> {
  const [text, pair] = texts;
  const { addSpecialTokens, maxLength } = options;
  if (maxLength === undefined) return describe(await whole.encode(text, pair ?? null, { addSpecialTokens }), texts);
  const [first, second] = await Promise.all([
    encodeBare(bare(), text),
    pair === undefined ? undefined : encodeBare(bare(), pair),
  ]);
  const room = maxLength - (addSpecialTokens ? addedTokens(whole, first, second) : 0);
  if (room < 0) throw tooShort(maxLength, maxLength - room);
  const lengths = shorten(first.getLength(), second?.getLength() ?? 0, room);
  first.truncate(lengths[0], 0, "right");
  second?.truncate(lengths[1], 0, "right");
  return describe(whole.postProcess(first, second ?? null, addSpecialTokens), texts, await pairType(whole));
}

/** The pair as often as it takes to have all of the second text, the first text whole in every window. */
export async function encodeInWindows(
  { whole, bare }: NativePair,
  texts: readonly [string, string],
  { maxLength, stride = 0 }: WindowOptions,
): Promise<Encoded[]> {
  const [first, second] = await Promise.all([encodeBare(bare(), texts[0]), encodeBare(bare(), texts[1])]);
  const taken = first.getLength() + addedTokens(whole, first, second);
  if (maxLength - taken <= stride) throw tooShort(maxLength, taken + stride + 1);
  second.truncate(maxLength - taken, stride, "right");
  const type = await pairType(whole);
  // Joined one by one: of windows that the library cuts itself, only the first gets its type ids.
  return [second, ...second.getOverflowing()].map((part) =>
    describe(whole.postProcess(first, part, true), texts, type),
  );
}

function encodeBare(native: NativeTokenizer, text: string): Promise<Encoding> {
  return native.encode(text, null, { addSpecialTokens: false });
}

/** The type id of second texts. It is set in encoding a pair, unless by a template in post-processing. */
async function pairType(native: NativeTokenizer): Promise<number | undefined> {
  const sample = await native.encode("a", "a", { addSpecialTokens: false });
  return sample.getTypeIds()[sample.getSequenceIds().indexOf(1)];
}

function addedTokens(native: NativeTokenizer, first: Encoding, second: Encoding | undefined): number {
  const length = first.getLength() + (second?.getLength() ?? 0);
  return native.postProcess(first, second ?? null, true).getLength() - length;
}

function tooShort(maxLength: number, needed: number): PlinthError {
  return new PlinthError(
    `maxLength: expected at least ${needed} (with the tokens that are added), got ${maxLength}`,
    "allow longer sequences, or give a shorter first text",
  );
}

/** Lengths of a pair that fit in `room`: the longer is cut first ("longest first" of the tokenizers library). */
function shorten(a: number, b: number, room: number): readonly [number, number] {
  if (a + b <= room) return [a, b];
  const shorter = Math.min(a, b);
  const longer = Math.max(shorter, room - shorter);
  const half = Math.floor(room / 2);
  const [x, y] = shorter > room || shorter + longer > room ? [half, half + (room % 2)] : [shorter, longer];
  return a > b ? [y, x] : [x, y];
}

function describe(encoding: Encoding, texts: Texts, typeOfPair?: number): Encoded {
  const sequences = encoding.getSequenceIds().map((id) => (id === 0 || id === 1 ? id : undefined));
  const units = texts.map((text) => utf16Offsets(text ?? ""));
  const offsets = encoding.getOffsets().map(([begin, end], i) => {
    const sequence = sequences[i];
    if (sequence === undefined) return [0, 0] as const;
    const at = units[sequence] as Uint32Array;
    return [at[begin as number] as number, at[end as number] as number] as const;
  });
  return {
    ids: Int32Array.from(encoding.getIds()),
    typeIds: Int32Array.from(encoding.getTypeIds(), (type, i) => (sequences[i] === 1 ? (typeOfPair ?? type) : type)),
    offsets,
    sequences,
    words: encoding.getWordIds().map((word) => word ?? undefined),
  };
}

/** Where each character (code point) of the text begins, in UTF-16 units, and where the last ends. */
function utf16Offsets(text: string): Uint32Array {
  const units = new Uint32Array(text.length + 1);
  let points = 0;
  let at = 0;
  for (const character of text) {
    units[points++] = at;
    at += character.length;
  }
  units[points] = at;
  return units;
}
