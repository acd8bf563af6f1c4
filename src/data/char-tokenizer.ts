import { PlinthError } from "../base/index.ts";
import { Tokenizer } from "./tokenizer.ts";
import { bpeTokenizerJson } from "./tokenizer-json.ts";

/**
 * A character-level tokenizer: one token per Unicode character of the texts, ordered by code point, special tokens after
 * them (none by default). A character that it does not know is an error when encoding. Throws PlinthError on no text.
 */
export async function trainCharTokenizer(
  texts: Iterable<string> | AsyncIterable<string>,
  options: { readonly specialTokens?: readonly string[] } = {},
): Promise<Tokenizer> {
  const seen = new Set<string>();
  for await (const text of texts) for (const character of text) seen.add(character);
  if (seen.size === 0) throw new PlinthError("no text to train the tokenizer on", "give a dataset with documents");
  const characters = [...seen].sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number));
  const specials = options.specialTokens ?? [];
  const eos = specials[0];
  return Tokenizer.fromJson(
    bpeTokenizerJson(
      {
        vocab: Object.fromEntries([...characters, ...specials].map((token, id) => [token, id])),
        merges: [],
        specials: specials.map((content, i) => ({ content, id: characters.length + i })),
      },
      { pre_tokenizer: null, post_processor: null, decoder: { type: "Fuse" } },
    ),
    { ...(eos === undefined ? {} : { bos_token: eos, eos_token: eos }), clean_up_tokenization_spaces: false },
  );
}
