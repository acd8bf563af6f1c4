import { vocabulary } from "./token-bytes.ts";
import type { TokenizerJson } from "./tokenizer-json.ts";

/**
 * The same tokenizer without a way to write a special token: they are no longer looked for in the text, and the model
 * cannot put one together from characters either (a Unigram vocabulary holds `</s>` as a piece like any other). Ids stay.
 * Nothing is added around the text. For encoding only.
 */
export function literalJson(json: TokenizerJson): TokenizerJson {
  const added = json.added_tokens ?? [];
  const specials = new Set(added.filter(({ special }) => special).map(({ content }) => content));
  return {
    ...json,
    added_tokens: added.filter(({ special }) => !special),
    post_processor: null,
    model: withoutPieces(json, specials),
  };
}

/** Noncharacters of Unicode, which no text has. */
const hidden = (id: number): string => `\u{fffff}${id}\u{10ffff}`;

function withoutPieces(json: TokenizerJson, specials: ReadonlySet<string>): TokenizerJson["model"] {
  const { model } = json;
  const { vocab, merges, unk_token } = model;
  // The models look the unknown token up by its name; characters that spell it are no harm.
  const spelled = (token: string, id: number) => (specials.has(token) && token !== unk_token ? hidden(id) : token);
  if (Array.isArray(vocab)) {
    return { ...model, vocab: vocab.map(([token, score]: [string, number], id) => [spelled(token, id), score]) };
  }
  const renamed = Object.fromEntries([...vocabulary(json)].map(([token, id]) => [spelled(token, id), id]));
  if (merges === undefined) return { ...model, vocab: renamed };
  const joined = (merge: unknown) => (Array.isArray(merge) ? merge : String(merge).split(" ")).join("");
  return { ...model, vocab: renamed, merges: merges.filter((merge) => !specials.has(joined(merge))) };
}
