import type { TokenizerJson } from "./tokenizer-json.ts";

/**
 * UTF-8 bytes of text behind each id. Exact for byte-level vocabularies (a character of the token stands for a byte);
 * for the others the token's own bytes, with SentencePiece's `▁` counted as a space, `<0xNN>` as one byte and word-piece
 * marks as none. Special tokens stand for no text.
 */
export function tokenByteLengths(json: TokenizerJson, size: number): Uint16Array {
  const lengths = new Uint16Array(size);
  const byteLevel = /"type":"ByteLevel"/.test(JSON.stringify([json.pre_tokenizer ?? null, json.decoder ?? null]));
  for (const [token, id] of vocabulary(json)) {
    lengths[id] = byteLevel ? [...token].length : /^<0x[0-9A-F]{2}>$/.test(token) ? 1 : plainBytes(token, json);
  }
  for (const added of json.added_tokens ?? []) lengths[added.id] = added.special ? 0 : Buffer.byteLength(added.content);
  return lengths;
}

function plainBytes(token: string, json: TokenizerJson): number {
  const text =
    json.model.type === "WordPiece" ? token.replace(/^##/, "") : token.replaceAll("▁", " ").replace(/<\/w>$/, " ");
  return Buffer.byteLength(text);
}

/** Tokens of the model and their ids, added tokens left out. */
export function* vocabulary(json: TokenizerJson): Generator<readonly [token: string, id: number]> {
  const { vocab } = json.model;
  if (Array.isArray(vocab)) {
    for (const [id, [token]] of (vocab as readonly (readonly [string, number])[]).entries()) yield [token, id]; // Unigram
  } else {
    for (const token of Object.keys(vocab)) yield [token, (vocab as Readonly<Record<string, number>>)[token] as number];
  }
}
