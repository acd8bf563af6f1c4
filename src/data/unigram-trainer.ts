import { lowercase as lowercaseNormalizer, nfkcNormalizer, nmt, sequenceNormalizer } from "tokenizers";
import { PlinthError } from "../base/index.ts";
import { countWords, splitWords, type TrainingControl } from "./count-words.ts";
import { Tokenizer } from "./tokenizer.ts";
import { specialToken, type TokenizerJson } from "./tokenizer-json.ts";
import { fitUnigram, type UnigramPiece } from "./unigram-model.ts";

export interface TrainUnigramOptions extends TrainingControl {
  /** Size of the vocabulary, special tokens and characters included. */
  readonly vocabSize: number;
  /** First in the vocabulary, in this order; <unk> is among them. Default: T5's <pad> </s> <unk>. */
  readonly specialTokens?: readonly string[];
  /** Special token that ends a text. Default: </s> where it is among the special tokens. */
  readonly eosToken?: string;
  /**
   * Compatibility forms of Unicode are made one (NFKC), white space of any kind and length is one space: T5's reading.
   * Off, text comes back as it was. Default true.
   */
  readonly normalize?: boolean;
  readonly lowercase?: boolean;
  /** Share of the text's characters that the vocabulary has, the most frequent ones; others are unknown. Default 0.9995. */
  readonly characterCoverage?: number;
  /** No piece has letters of two scripts, or letters and other characters, as in SentencePiece. Default true. */
  readonly splitByScript?: boolean;
  /** In characters. Default 16. */
  readonly maxPieceLength?: number;
  /** Candidates to begin with. Default 1 000 000. */
  readonly seedSize?: number;
  /** Of the pieces, how many survive a round of pruning. Default 0.75. */
  readonly shrinkingFactor?: number;
}

const space = "▁";
/** Long words, such as lines without spaces, are looked at in parts. */
const maxWordLength = 1000;
export const unigramSpecialTokens = ["<pad>", "</s>", "<unk>"] as const;

/**
 * Trains a unigram language model tokenizer (Kudo 2018), as SentencePiece does, see {@link fitUnigram}: the likeliest of
 * all splittings of a word is its tokens. Words begin with `▁`, which stands for a space. The vocabulary is smaller than
 * asked when the text has no more pieces. Throws PlinthError when it has no room for special tokens and characters, has
 * no <unk>, or the texts are empty.
 */
export async function trainUnigram(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainUnigramOptions,
): Promise<Tokenizer> {
  const { specialTokens: specials = unigramSpecialTokens, normalize = true, lowercase = false } = options;
  if (!specials.includes("<unk>")) {
    throw new PlinthError("a unigram tokenizer needs the special token <unk>", "add it to the special tokens");
  }
  const chunks = await countWords(texts, normalize ? /\P{White_Space}+/gu : / ?[^ ]+| /gu, options);
  const normalizer = sequenceNormalizer([
    ...(normalize ? [nmt(), nfkcNormalizer()] : []),
    ...(lowercase ? [lowercaseNormalizer()] : []),
  ]);
  const words = splitWords(chunks, (chunk) => {
    const text = normalize || lowercase ? normalizer.normalizeString(chunk) : chunk;
    if (!normalize) return [space + text.replace(/^ /, "")];
    return (text.match(/\P{White_Space}+/gu) ?? []).map((word) => space + word);
  });
  const known = cover(words, options.characterCoverage ?? 0.9995);

  const characters = new Set([...known.keys()].flatMap((word) => [...word])).size;
  const size = options.vocabSize - specials.length;
  if (size < characters) {
    throw new PlinthError(
      `--vocab-size: expected at least ${characters + specials.length} (${specials.length} special tokens and ${characters} characters), got ${options.vocabSize}`,
      `use ${characters + specials.length} or more, or fewer characters with --character-coverage`,
    );
  }
  const pieces = await fitUnigram(known, {
    ...options,
    size,
    maxPieceLength: Math.min(255, options.maxPieceLength ?? 16),
    splitByScript: options.splitByScript ?? true,
    seedSize: options.seedSize ?? 1_000_000,
    shrinkingFactor: options.shrinkingFactor ?? 0.75,
  });
  const eos = options.eosToken ?? (specials.includes("</s>") ? "</s>" : undefined);
  const json = unigramJson(pieces, { specials, eos, normalize, lowercase });
  return Tokenizer.fromJson(json, {
    ...(eos === undefined ? {} : { eos_token: eos }),
    ...(specials.includes("<pad>") ? { pad_token: "<pad>" } : {}),
    unk_token: "<unk>",
    clean_up_tokenization_spaces: false,
    model_max_length: 1e30,
  });
}

/** Words of the most frequent characters: what covers the share asked; a word is cut where it has others. */
function cover(words: ReadonlyMap<string, number>, share: number): Map<string, number> {
  const counts = new Map<string, number>();
  let total = 0;
  for (const [word, count] of words) {
    for (const character of word) {
      counts.set(character, (counts.get(character) ?? 0) + count);
      total += count;
    }
  }
  const kept = new Set<string>([space]);
  let covered = counts.get(space) ?? 0;
  for (const [character, count] of [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))) {
    if (covered >= share * total) break;
    if (kept.has(character)) continue;
    kept.add(character);
    covered += count;
  }
  return splitWords(words, function* (word) {
    const part: string[] = [];
    for (const character of word) {
      if (kept.has(character) && part.push(character) < maxWordLength) continue;
      if (part.length > 0) yield part.join("");
      part.length = 0;
    }
    if (part.length > 0) yield part.join("");
  });
}

/** tokenizer.json of a T5: special tokens first, `</s>` after each text. */
function unigramJson(
  pieces: readonly UnigramPiece[],
  options: {
    readonly specials: readonly string[];
    readonly eos: string | undefined;
    readonly normalize: boolean;
    readonly lowercase: boolean;
  },
): TokenizerJson {
  const { specials, eos, normalize, lowercase } = options;
  const metaspace = { type: "Metaspace", replacement: space, prepend_scheme: "always", split: true };
  const normalizers = [
    ...(normalize ? [{ type: "Nmt" }, { type: "NFKC" }] : []),
    ...(lowercase ? [{ type: "Lowercase" }] : []),
    ...(normalize ? [{ type: "Replace", pattern: { Regex: " {2,}" }, content: " " }] : []),
  ];
  const isSpecial = new Set(specials);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specials.map((content, id) => specialToken({ content, id })),
    normalizer: normalizers.length === 0 ? null : { type: "Sequence", normalizers },
    pre_tokenizer: normalize
      ? { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, metaspace] }
      : metaspace,
    post_processor: eos === undefined ? null : endTemplate(eos, specials.indexOf(eos)),
    decoder: metaspace,
    model: {
      type: "Unigram",
      unk_id: specials.indexOf("<unk>"),
      vocab: [
        ...specials.map((token) => [token, 0] as const),
        ...pieces.filter(({ piece }) => !isSpecial.has(piece)).map(({ piece, score }) => [piece, score] as const),
      ],
      byte_fallback: false,
    },
  };
}

/** A text and its end; two texts, each with its end. */
function endTemplate(eos: string, id: number): object {
  const end = { SpecialToken: { id: eos, type_id: 0 } };
  const text = (name: string) => ({ Sequence: { id: name, type_id: 0 } });
  return {
    type: "TemplateProcessing",
    single: [text("A"), end],
    pair: [text("A"), end, text("B"), end],
    special_tokens: { [eos]: { id: eos, ids: [id], tokens: [eos] } },
  };
}
