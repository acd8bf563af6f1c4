import { PlinthError, sha256 } from "../base/index.ts";
import { HostRandom } from "../engine/index.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Ids of the tokens that stand before the parts of a document that is filled in the middle. */
export interface InfillingTokens {
  readonly prefix: number;
  readonly middle: number;
  readonly suffix: number;
}

/** StarCoder's, SantaCoder's, and Qwen's spelling. */
const spellings = [
  ["<fim_prefix>", "<fim_middle>", "<fim_suffix>"],
  ["<fim-prefix>", "<fim-middle>", "<fim-suffix>"],
  ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"],
] as const;

/** The tokenizer's tokens for infilling; undefined where it has not all three of one spelling. */
export function infillingTokens(tokenizer: Tokenizer): InfillingTokens | undefined {
  for (const names of spellings) {
    const [prefix, middle, suffix] = names.map((name) => tokenizer.tokenToId(name));
    if (prefix !== undefined && middle !== undefined && suffix !== undefined) return { prefix, middle, suffix };
  }
  return undefined;
}

/** The same. Throws PlinthError naming the tokens that are missing. */
export function requiredInfillingTokens(tokenizer: Tokenizer): InfillingTokens {
  const tokens = infillingTokens(tokenizer);
  if (tokens !== undefined) return tokens;
  const missing = spellings[0].filter((name) => tokenizer.tokenToId(name) === undefined);
  throw new PlinthError(
    `fill-in-the-middle: the tokenizer has no ${missing.join(", ")}`,
    `train one that has: plinth tokenizer train --special-token "<|endoftext|>" ${spellings[0].map((name) => `--special-token "${name}"`).join(" ")}`,
  );
}

export interface InfillingOptions {
  /** Share of the documents that are rearranged; half of these have the suffix first. */
  readonly rate: number;
  /**
   * `document` (default): whole documents, however long (Bavarian et al. 2022, "document-level"). A number: documents are
   * first cut at line ends into pieces of about that many tokens, so that the parts of each fit a context ("context-level").
   */
  readonly pieces?: "document" | number | undefined;
  /** With a document's text, decides what becomes of it. Default 0. */
  readonly seed?: number | undefined;
}

/** Throws PlinthError when an option is out of range. */
export function checkInfilling({ rate, pieces = "document" }: InfillingOptions): void {
  if (!(rate >= 0 && rate <= 1)) {
    throw new PlinthError(`--fim-rate: expected a share from 0 to 1, got ${rate}`, "try 0.5");
  }
  if (pieces !== "document" && !(Number.isInteger(pieces) && pieces >= 16)) {
    throw new PlinthError(`fill-in-the-middle: pieces of ${pieces} tokens are too short to split`, "use 16 or more");
  }
}

/** A document as tokens, and the UTF-8 bytes of its text. */
export interface InfillingDocument {
  readonly ids: Int32Array;
  readonly bytes: number;
}

/**
 * Documents as a model that fills in the middle is trained on them (Bavarian et al. 2022), ended by the end-of-text token.
 * With probability `rate` a text is cut at two places, drawn uniformly among its characters, and becomes
 * `<prefix> a <suffix> c <middle> b` (PSM) or, half of the time, `<prefix> <suffix> c <middle> a b` (SPM); each part is
 * encoded by itself. Depends on the seed and the text alone. Throws PlinthError when the tokenizer lacks the tokens.
 */
export async function encodeForInfilling(
  texts: readonly string[],
  tokenizer: Tokenizer,
  options: InfillingOptions,
): Promise<InfillingDocument[]> {
  checkInfilling(options);
  const { rate, pieces = "document", seed = 0 } = options;
  const tokens = requiredInfillingTokens(tokenizer);
  const whole =
    pieces === "document"
      ? texts.map((text) => ({ text, isLast: true }))
      : (await Promise.all(texts.map((text) => cutAtLines(text, tokenizer, pieces)))).flat();
  const plans = whole.map(({ text, isLast }) => {
    const random = new HostRandom(Number.parseInt(sha256(`${seed} ${text}`).slice(0, 8), 16));
    if (random.uniform() >= rate) return { text, isLast, parts: [text], order: "plain" } as const;
    const order = random.uniform() < 0.5 ? "spm" : "psm";
    return { text, isLast, parts: cutInThree(text, random), order } as const;
  });
  const encoded = (
    await tokenizer.encodeBatch(
      plans.flatMap(({ parts }) => parts),
      { literal: true },
    )
  ).values();
  const next = () => encoded.next().value as Int32Array;
  const eos = tokenizer.eosId === undefined ? [] : [tokenizer.eosId];
  return plans.map(({ text, isLast, order }) => {
    const bytes = Buffer.byteLength(text);
    // a piece that goes on elsewhere does not end the text; a middle that meets its suffix does
    if (order === "plain") return { ids: Int32Array.from([...next(), ...(isLast ? eos : [])]), bytes };
    const [a, b, c] = [next(), next(), next()];
    const ids =
      order === "psm"
        ? [tokens.prefix, ...a, tokens.suffix, ...c, tokens.middle, ...b]
        : [tokens.prefix, tokens.suffix, ...c, tokens.middle, ...a, ...b];
    return { ids: Int32Array.from([...ids, ...eos]), bytes };
  });
}

/** Three parts of a text, cut at two of its characters. */
function cutInThree(text: string, random: HostRandom): readonly [string, string, string] {
  const cut = () => {
    const at = random.int(text.length + 1);
    const isInside = /[\uDC00-\uDFFF]/.test(text[at] ?? "") && /[\uD800-\uDBFF]/.test(text[at - 1] ?? "");
    return isInside ? at + 1 : at; // not between the halves of one character
  };
  const [from, to] = [cut(), cut()].sort((a, b) => a - b) as [number, number];
  return [text.slice(0, from), text.slice(from, to), text.slice(to)];
}

/** Runs of lines of at most about `size` tokens; a longer line is cut wherever that is. */
async function cutAtLines(text: string, tokenizer: Tokenizer, size: number) {
  const lines = text.split(/(?<=\n)/);
  const counts = (await tokenizer.encodeBatch(lines, { literal: true })).map(({ length }) => length);
  const pieces: string[] = [];
  let piece = "";
  let room = size;
  const flush = () => {
    if (piece !== "") pieces.push(piece);
    piece = "";
    room = size;
  };
  for (const [i, line] of lines.entries()) {
    const count = counts[i] as number;
    if (count > room) flush();
    if (count <= size) {
      piece += line;
      room -= count;
      continue;
    }
    const characters = [...line];
    const width = Math.max(1, Math.floor((characters.length * size) / count));
    for (let at = 0; at < characters.length; at += width) pieces.push(characters.slice(at, at + width).join(""));
  }
  flush();
  return pieces.map((text, i) => ({ text, isLast: i === pieces.length - 1 }));
}
