import { PlinthError } from "../base/index.ts";
import type { Tokenizer } from "../data/index.ts";
import type { Model } from "../models/index.ts";
import { checkOptions, type GenerateOptions, type Prompt, type SamplingOptions } from "./options.ts";

/** A prompt as token ids that suit the model, with the options that hold for it. */
export interface ResolvedPrompt {
  readonly index: number;
  /** The prompt as given, when it was text. */
  readonly text: string | undefined;
  readonly ids: Int32Array;
  readonly options: GenerateOptions;
}

/**
 * Encodes and checks prompts; options of a prompt win over those of the call, and these over the model's own
 * (generation_config.json). Throws PlinthError naming the prompt when it does not suit the model, or the option that is
 * out of range.
 */
export async function resolvePrompts(
  model: Model,
  prompts: readonly Prompt[],
  shared: GenerateOptions,
): Promise<ResolvedPrompt[]> {
  const defaults = modelSampling(model);
  return await Promise.all(
    prompts.map(async (given, index) => {
      const { prompt, ...own } = typeof given === "object" && "prompt" in given ? given : { prompt: given };
      const options: GenerateOptions = { ...defaults, ...defined(shared), ...defined(own) };
      checkOptions(options);
      if ((options.stop ?? []).length > 0 && model.tokenizer === undefined) throw noTokenizer("stop strings need one");
      const text = typeof prompt === "string" ? prompt : undefined;
      const ids =
        typeof prompt === "string"
          ? await encode(model, prompt, options)
          : Int32Array.from(checkIds(prompt, model, index));
      return { index, text, ids: atLeastOne(checkIds(ids, model, index), model, index), options };
    }),
  );
}

/** Sampling settings of generation_config.json, where it asks for sampling. */
function modelSampling({ generationConfig = {} }: Model): SamplingOptions {
  const number = (key: string): number | undefined => {
    const value = generationConfig[key];
    return typeof value === "number" && value > 0 ? value : undefined;
  };
  const repetitionPenalty = number("repetition_penalty");
  const sampling = {
    temperature: number("temperature"),
    topK: number("top_k"),
    topP: number("top_p"),
    minP: number("min_p"),
  };
  return defined({ repetitionPenalty, ...(generationConfig.do_sample === true ? sampling : {}) });
}

/** Ids that end a text of this model: of its generation settings, else its config, else its tokenizer. */
export function modelEosIds({ config, tokenizer, generationConfig = {} }: Model): readonly number[] {
  const own = generationConfig.eos_token_id;
  const ids = (Array.isArray(own) ? own : [own]).filter((id) => typeof id === "number");
  if (ids.length > 0) return ids;
  if (config.eosTokenIds.length > 0) return config.eosTokenIds;
  return tokenizer?.eosId === undefined ? [] : [tokenizer.eosId];
}

/** The token that stands before a text: beginning-of-text, else end-of-text, which ends the text before it. */
export function modelBosId(model: Model): number | undefined {
  return model.tokenizer?.bosId ?? model.config.bosTokenId ?? model.tokenizer?.eosId ?? modelEosIds(model)[0];
}

async function encode(model: Model, text: string, { addSpecialTokens = true }: GenerateOptions): Promise<Int32Array> {
  const { tokenizer } = model;
  if (tokenizer === undefined) throw noTokenizer("a text prompt needs one");
  if (!addSpecialTokens) return await tokenizer.encode(text);
  // A source ends where its text does.
  if (model.family.kind === "encoder-decoder") return await tokenizer.encode(text, { addSpecialTokens });
  return (await encodePrompts(tokenizer, [text]))[0] as Int32Array;
}

/**
 * Texts to be continued: with what the tokenizer's post-processor puts before a text, without an end-of-text token that
 * it puts after.
 */
export async function encodePrompts(tokenizer: Tokenizer, texts: readonly string[]): Promise<Int32Array[]> {
  const { bosId, eosId } = tokenizer;
  const encoded = await tokenizer.encodeBatch(texts, { addSpecialTokens: true });
  return encoded.map((ids) => (eosId !== bosId && ids.at(-1) === eosId ? ids.slice(0, -1) : ids));
}

function atLeastOne(ids: Int32Array, model: Model, index: number): Int32Array {
  if (ids.length > 0) return ids;
  const bos = modelBosId(model);
  if (bos !== undefined) return Int32Array.of(bos);
  throw new PlinthError(
    `prompt ${index + 1} is empty, and the model has no beginning-of-text token to start from`,
    "give at least one word",
  );
}

function checkIds<Ids extends ArrayLike<number>>(ids: Ids, { config }: Model, index: number): Ids {
  for (let position = 0; position < ids.length; position++) {
    const id = ids[position] as number;
    if (Number.isInteger(id) && id >= 0 && id < config.vocabSize) continue;
    throw new PlinthError(
      `prompt ${index + 1}: token id ${id} at position ${position} is outside the model's vocabulary of ${config.vocabSize}`,
      "encode the prompt with the tokenizer that belongs to the model",
    );
  }
  if (ids.length > config.contextLength) {
    throw new PlinthError(
      `prompt ${index + 1} has ${ids.length} tokens, but the model's context is ${config.contextLength}`,
      "shorten the prompt, or use a model with a longer context",
    );
  }
  return ids;
}

function noTokenizer(why: string): PlinthError {
  return new PlinthError(
    `the model has no tokenizer.json, and ${why}`,
    "put tokenizer.json into the model's folder, or give token ids",
  );
}

function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
