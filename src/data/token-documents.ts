import { sha256 } from "../base/index.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Per-document numbers of a token collection. */
export interface DocumentIndex {
  /** Tokens of each document, the end-of-text token included. */
  readonly lengths: Uint32Array;
  /** UTF-8 bytes of each document's text. */
  readonly bytes: Uint32Array;
  /** What the tokenizer's bytes per token add up to beyond the document's bytes; 0 for byte-level vocabularies. */
  readonly excess: Int32Array;
}

export interface TokenSource extends DocumentIndex {
  /** Identity of the tokens, for resuming. */
  readonly hash: string;
  readonly vocabSize: number;
  /** UTF-8 bytes of text behind each id. */
  readonly tokenBytes: Uint16Array;
  /** Put before every document by the packer, so that a document's first token is predicted too. */
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  /** 1 where a token is a target, over all documents in order; absent: every token is. */
  readonly lossMask?: Uint8Array;
  /** Tokens `[start, end)` of all documents in order. */
  readonly read: (start: number, end: number) => Promise<Int32Array>;
}

/** Documents as token ids, one after the other, read on demand. */
export class TokenDocuments {
  readonly source: TokenSource;
  /** Where each document starts among all tokens; one more entry for the end. */
  readonly starts: Float64Array;

  constructor(source: TokenSource) {
    this.source = source;
    this.starts = new Float64Array(source.lengths.length + 1);
    for (const [i, length] of source.lengths.entries()) this.starts[i + 1] = (this.starts[i] as number) + length;
  }

  get count(): number {
    return this.source.lengths.length;
  }

  get tokenCount(): number {
    return this.starts[this.count] as number;
  }

  /** UTF-8 bytes of all documents. */
  get byteCount(): number {
    return this.source.bytes.reduce((sum, bytes) => sum + bytes, 0);
  }

  get hash(): string {
    return this.source.hash;
  }

  /** The ids of one document. */
  async document(index: number): Promise<Int32Array> {
    return this.source.read(this.starts[index] as number, this.starts[index + 1] as number);
  }
}

export interface TokenDocument {
  readonly ids: ArrayLike<number>;
  /** 1 where the token is a target. Absent: all are. */
  readonly lossMask?: ArrayLike<number>;
  /** UTF-8 bytes of the text. Absent: counted from the ids. */
  readonly bytes?: number;
}

/**
 * Documents held in memory, for data that is rendered rather than read, such as conversations. Ids are taken as they
 * are: with `addBos` (default false) the packer puts the BOS token before each. Throws PlinthError naming an id that is
 * out of range.
 */
export function tokenDocuments(
  documents: readonly TokenDocument[],
  tokenizer: Tokenizer,
  options: { readonly addBos?: boolean } = {},
): TokenDocuments {
  const { tokenBytes } = tokenizer;
  const lengths = Uint32Array.from(documents, (document) => document.ids.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const tokens = new Int32Array(total);
  const masked = documents.some((document) => document.lossMask !== undefined);
  const lossMask = new Uint8Array(masked ? total : 0);
  const bytes = new Uint32Array(documents.length);
  const excess = new Int32Array(documents.length);
  let at = 0;
  for (const [i, document] of documents.entries()) {
    tokenizer.checkIds(document.ids);
    tokens.set(document.ids, at);
    if (masked) lossMask.set(document.lossMask ?? new Uint8Array(document.ids.length).fill(1), at);
    const counted = countBytes(document.ids, tokenBytes);
    bytes[i] = document.bytes ?? counted;
    excess[i] = counted - (bytes[i] as number);
    at += document.ids.length;
  }
  return new TokenDocuments({
    lengths,
    bytes,
    excess,
    hash: sha256(Buffer.concat([lengths, tokens, lossMask].map((part) => new Uint8Array(part.buffer)))),
    vocabSize: tokenizer.vocabSize,
    tokenBytes,
    bosId: options.addBos === true ? tokenizer.bosId : undefined,
    eosId: tokenizer.eosId,
    ...(masked ? { lossMask } : {}),
    read: async (start, end) => tokens.slice(start, end),
  });
}

export function countBytes(ids: ArrayLike<number>, tokenBytes: Uint16Array): number {
  let sum = 0;
  for (let i = 0; i < ids.length; i++) sum += tokenBytes[ids[i] as number] as number;
  return sum;
}
