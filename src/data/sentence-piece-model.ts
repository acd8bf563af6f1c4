import { PlinthError } from "../base/index.ts";

/** What a SentencePiece model file says, as far as it matters for encoding. Source: sentencepiece_model.proto. */
export interface SentencePieceModel {
  readonly pieces: readonly { readonly piece: string; readonly score: number; readonly type: PieceType }[];
  readonly modelType: "unigram" | "bpe" | "word" | "char";
  readonly byteFallback: boolean;
  readonly unkId: number;
  /** Absent where the model was trained without. */
  readonly bosId?: number;
  readonly eosId?: number;
  readonly padId?: number;
  readonly unkPiece: string;
  /** Replacements of characters, compiled (Darts double array); empty for none. */
  readonly charsMap: Uint8Array;
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
}

export type PieceType = "normal" | "unknown" | "control" | "userDefined" | "unused" | "byte";
const pieceTypes: readonly PieceType[] = ["normal", "unknown", "control", "userDefined", "unused", "byte"];
const modelTypes = ["unigram", "bpe", "word", "char"] as const;

/** Reads `tokenizer.model` or `spiece.model`. Throws PlinthError when it is damaged or something else. */
export function parseSentencePiece(bytes: Uint8Array, path: string): SentencePieceModel {
  const fail = (what: string): never => {
    throw new PlinthError(
      `${path}: not a SentencePiece model (${what})`,
      "download it again, or save the tokenizer with transformers as a fast tokenizer (tokenizer.json)",
    );
  };
  const model = fields(bytes, fail);
  const trainer = fields(last(model, 2) ?? new Uint8Array(), fail);
  const normalizer = fields(last(model, 3) ?? new Uint8Array(), fail);
  const pieces = (model.get(1) ?? []).map((value) => {
    const piece = fields(value instanceof Uint8Array ? value : fail("a piece without content"), fail);
    const type = pieceTypes[number(piece, 3, 1) - 1];
    const name = last(piece, 1);
    if (type === undefined || name === undefined) return fail("a piece of an unknown kind");
    return { piece: decoder.decode(name), score: float(piece, 2), type };
  });
  if (pieces.length === 0) return fail("no pieces");
  const modelType = modelTypes[number(trainer, 3, 1) - 1];
  if (modelType === undefined) return fail("an unknown kind of model");
  const id = (field: number, fallback: number) => {
    const value = number(trainer, field, fallback) | 0; // negative for none
    return value >= 0 && value < pieces.length ? value : undefined;
  };
  const unkId = id(40, 0) ?? fail("no unknown piece");
  const [bosId, eosId, padId] = [id(41, 1), id(42, 2), id(43, -1)];
  return {
    pieces,
    modelType,
    byteFallback: number(trainer, 35, 0) !== 0,
    unkId,
    ...(bosId === undefined ? {} : { bosId }),
    ...(eosId === undefined ? {} : { eosId }),
    ...(padId === undefined ? {} : { padId }),
    unkPiece: (pieces[unkId] as { piece: string }).piece,
    charsMap: last(normalizer, 2) ?? new Uint8Array(),
    addDummyPrefix: number(normalizer, 3, 1) !== 0,
    removeExtraWhitespaces: number(normalizer, 4, 1) !== 0,
  };
}

const decoder = new TextDecoder();

/** Values of a protobuf message by field: numbers (varints), or bytes of everything else. */
type Fields = ReadonlyMap<number, readonly (number | Uint8Array)[]>;

/** Source: https://protobuf.dev/programming-guides/encoding. */
function fields(bytes: Uint8Array, fail: (what: string) => never): Fields {
  const found = new Map<number, (number | Uint8Array)[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) return fail("truncated");
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(BigInt.asIntN(64, value));
    }
    return fail("damaged");
  };
  const take = (length: number): Uint8Array => {
    if (length < 0 || at + length > bytes.length) return fail("truncated");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = varint();
    const field = Math.floor(key / 8);
    const wire = key & 7;
    const value =
      wire === 0 ? varint() : wire === 1 ? take(8) : wire === 2 ? take(varint()) : wire === 5 ? take(4) : -1;
    if (value === -1 && wire !== 0) fail("damaged");
    if (field < 1) fail("damaged");
    const list = found.get(field);
    if (list === undefined) found.set(field, [value]);
    else list.push(value);
  }
  return found;
}

function last(message: Fields, field: number): Uint8Array | undefined {
  const value = message.get(field)?.at(-1);
  return value instanceof Uint8Array ? value : undefined;
}

function number(message: Fields, field: number, fallback: number): number {
  const value = message.get(field)?.at(-1);
  return typeof value === "number" ? value : fallback;
}

function float(message: Fields, field: number): number {
  const bytes = last(message, field);
  return bytes?.length === 4 ? new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true) : 0;
}
