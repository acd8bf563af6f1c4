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

const defaultMaxTokens = 256;

/**
 * The prompt after which a model trained on filling in the middle writes what belongs between prefix and suffix:
 * `<prefix> prefix <suffix> suffix <middle>` (Bavarian et al. 2022, PSM). Where the context is short, what is far from the
 * gap is left out, so that `maxTokens`, but at most half of the context, are left for the middle. Special tokens written
 * in the texts are read as text. Throws PlinthError when the model's tokenizer lacks the tokens.
 */
export async function infillingPrompt(
  model: Model,
  { prefix, suffix }: Gap,
  maxTokens = defaultMaxTokens,
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
  return Int32Array.from([...bos, tokens.prefix, ...left, tokens.suffix, ...right, tokens.middle]);
}

/** Writes what belongs between two texts. Ends where the model says that the suffix is reached. */
export async function infill(model: Model, gap: Gap, options: GenerateOptions = {}): Promise<Generation> {
  const prompt = await infillingPrompt(model, gap, options.maxTokens);
  return await generateText(model, prompt, { maxTokens: defaultMaxTokens, ...options });
}

function infillingTokenizer({ tokenizer }: Model): Tokenizer {
  if (tokenizer !== undefined) return tokenizer;
  throw new PlinthError("fill-in-the-middle: the model has no tokenizer.json", "put it into the model's folder");
}
