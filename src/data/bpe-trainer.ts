import { lowercase as lowercaseNormalizer } from "tokenizers";
import { PlinthError } from "../base/index.ts";
import { countWords, type TrainingControl } from "./count-words.ts";
import { mergePairs, type WordSymbols } from "./merge-pairs.ts";
import { Tokenizer } from "./tokenizer.ts";
import { byteLevelBpe } from "./tokenizer-json.ts";
import { gpt2Words } from "./words.ts";

export interface TrainBpeOptions extends TrainingControl {
  /** Size of the vocabulary, special tokens and the 256 bytes included. */
  readonly vocabSize: number;
  /** First in the vocabulary, in this order. Default: end of text and the two tokens of ChatML. */
  readonly specialTokens?: readonly string[];
  /** Special token that ends a document. Default: the first special token. */
  readonly eosToken?: string;
  /** Pairs seen less often are not merged. Default 0, as in Hugging Face's trainer. */
  readonly minFrequency?: number;
  /** Text is read in lower case. Default false. */
  readonly lowercase?: boolean;
}

/** End of text, and the two tokens of ChatML. */
export const defaultSpecialTokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] as const;

/**
 * Trains byte-level BPE (Sennrich et al. 2016; GPT-2's bytes and words): merges the most frequent pair, ties broken by
 * the smaller pair of ids. Gives the vocabulary and merges of Hugging Face's BpeTrainer with a ByteLevel pre-tokenizer on
 * the same texts (letters that only the newer of two Unicode versions knows aside). The vocabulary is smaller than asked when the texts have no more pairs. Throws PlinthError when the
 * vocabulary cannot hold the bytes and special tokens, or the texts are empty.
 */
export async function trainBpe(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainBpeOptions,
): Promise<Tokenizer> {
  const specials = options.specialTokens ?? defaultSpecialTokens;
  const smallest = 256 + specials.length;
  if (!Number.isInteger(options.vocabSize) || options.vocabSize < smallest) {
    throw new PlinthError(
      `--vocab-size: expected at least ${smallest} (256 bytes and ${specials.length} special tokens), got ${options.vocabSize}`,
      `use ${smallest} or more`,
    );
  }
  const vocab = [...specials, ...byteAlphabet()];
  const lowercase = options.lowercase ?? false;
  const words = await countWords(lowercase ? lowercased(texts) : texts, gpt2Words, options);
  const merges = await mergePairs(encodeWords(words, specials.length), vocab, { ...options, join: (a, b) => a + b });
  const json = byteLevelBpe(
    Object.fromEntries(vocab.map((token, id) => [token, id])),
    merges.map(([a, b]) => [vocab[a] as string, vocab[b] as string]),
    specials.map((content, id) => ({ content, id })),
  );
  const normalizer = lowercase ? { type: "Lowercase" } : null;
  const eos = options.eosToken ?? specials[0];
  return Tokenizer.fromJson(
    { ...json, normalizer },
    {
      ...(eos === undefined ? {} : { bos_token: eos, eos_token: eos, pad_token: eos }),
      clean_up_tokenization_spaces: false,
      model_max_length: 1e30,
    },
  );
}

async function* lowercased(texts: Iterable<string> | AsyncIterable<string>): AsyncGenerator<string> {
  const normalizer = lowercaseNormalizer();
  for await (const text of texts) yield normalizer.normalizeString(text);
}

/** GPT-2's printable stand-ins for the 256 bytes; index = byte. */
export function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCodePoint(printable ? byte : next++);
  });
}

function byteAlphabet(): string[] {
  return byteCharacters().sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number));
}

function encodeWords(words: ReadonlyMap<string, number>, specials: number): WordSymbols {
  const idOfByte = new Int32Array(256);
  const rank = new Map(byteAlphabet().map((character, i) => [character, i]));
  for (const [byte, character] of byteCharacters().entries())
    idOfByte[byte] = specials + (rank.get(character) as number);
  const symbols: Int32Array[] = [];
  for (const word of words.keys())
    symbols.push(Int32Array.from(Buffer.from(word, "utf8"), (byte) => idOfByte[byte] as number));
  return { symbols, counts: Float64Array.from(words.values()) };
}
