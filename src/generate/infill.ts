import { PlinthError } from "../base/index.ts";
import { requiredInfillingTokens, type Tokenizer } from "../data/index.ts";
import type { Model } from "../models/index.ts";
import { promptRoom } from "./chat.ts";
import { generateText } from "./generate.ts";
import type { GenerateOptions, Generation } from "./options.ts";

/** A place in a text: what is before it and after it. */
export interface Gap {
  readonly prefix: string;
  readonly suffix: string;
}

/**
 * The orders of a prompt (Bavarian et al. 2022): `psm`, `<prefix> prefix <suffix> suffix <middle>`, which every model that
 * fills in the middle knows; `spm`, `<prefix> <suffix> suffix <middle> prefix`, which StarCoder and the models trained here
 * know too: what is before the gap is then next to it, and small models do better.
 */
export const infillingOrders = ["psm", "spm"] as const;

export type InfillingOrder = (typeof infillingOrders)[number];

export interface InfillOptions extends GenerateOptions {
  /** Default `psm`. */
  readonly order?: InfillingOrder | undefined;
}

const defaultMaxTokens = 256;

/**
 * The prompt after which a model trained on filling in the middle writes what belongs between prefix and suffix. Where the
 * context is short, what is far from the gap is left out, so that `maxTokens` (default 256), but at most half of the
 * context, are left for the middle. Special tokens written in the texts are read as text. Throws PlinthError when the
 * model's tokenizer lacks the tokens.
 */
export async function infillingPrompt(
  model: Model,
  { prefix, suffix }: Gap,
  { maxTokens = defaultMaxTokens, order = "psm" }: Pick<InfillOptions, "maxTokens" | "order"> = {},
): Promise<Int32Array> {
  const tokenizer = infillingTokenizer(model);
  const tokens = requiredInfillingTokens(tokenizer);
  const [before, after] = (await tokenizer.encodeBatch([prefix, suffix], { literal: true })) as [
    Int32Array,
    Int32Array,
  ];
  const bos = tokenizer.bosId === undefined ? [] : [tokenizer.bosId];
  const room = Math.max(0, promptRoom(model, maxTokens) - 3 - bos.length);
  const half = Math.floor(room / 2);
  const kept = Math.max(half, room - after.length);
  const left = before.length > kept ? before.slice(before.length - kept) : before;
  const right = after.slice(0, room - left.length);
  const parts =
    order === "psm"
      ? [...left, tokens.suffix, ...right, tokens.middle]
      : [tokens.suffix, ...right, tokens.middle, ...left];
  return Int32Array.from([...bos, tokens.prefix, ...parts]);
}

/** Writes what belongs between two texts. Ends where the model says that the suffix is reached. */
export async function infill(model: Model, gap: Gap, options: InfillOptions = {}): Promise<Generation> {
  const { order, ...rest } = options;
  const prompt = await infillingPrompt(model, gap, options);
  return await generateText(model, prompt, { maxTokens: defaultMaxTokens, ...rest });
}

function infillingTokenizer({ tokenizer }: Model): Tokenizer {
  if (tokenizer !== undefined) return tokenizer;
  throw new PlinthError("fill-in-the-middle: the model has no tokenizer.json", "put it into the model's folder");
}
