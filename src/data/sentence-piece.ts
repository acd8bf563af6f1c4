import { PlinthError } from "../base/index.ts";
import { parseSentencePiece, type SentencePieceModel } from "./sentence-piece-model.ts";
import {
  type AddedToken,
  specialToken,
  type TokenizerConfig,
  type TokenizerFiles,
  type TokenizerJson,
} from "./tokenizer-json.ts";

const space = "▁";

/**
 * A SentencePiece model (unigram or BPE) as a tokenizer.json that encodes like it. Which tokens go around a text is not in
 * the file: `add_bos_token`, `add_eos_token` and `tokenizer_class` of tokenizer_config.json say it; without them the
 * beginning of text where the model has one (Llama, Gemma), else the end (T5, with its 100 `<extra_id_N>` when its class is
 * named). The tokenizers library applies a model's character map to clusters of at most five bytes, else to single
 * characters: half-width katakana with voicing marks come out as two characters, as in every fast tokenizer. Throws PlinthError for word and character models, and for classes that number the pieces otherwise.
 */
export function readSentencePiece(bytes: Uint8Array, path: string, config: TokenizerConfig): TokenizerFiles {
  const model = parseSentencePiece(bytes, path);
  const named = String(config["tokenizer_class"] ?? "").replace(/Fast$/, "");
  if (model.modelType === "word" || model.modelType === "char" || renumbering.test(named)) {
    const what = renumbering.test(named) ? `the ids of a ${named} are not those` : `a ${model.modelType} model`;
    throw new PlinthError(
      `${path}: ${what} of a SentencePiece model that is read here`,
      "save the tokenizer with transformers as a fast tokenizer (tokenizer.json)",
    );
  }
  const extra = sentinels(named, config);
  const added = [
    ...model.pieces.flatMap(({ piece, type }, id): AddedToken[] => {
      if (type === "normal" || type === "unused" || type === "byte") return [];
      return [{ ...specialToken({ content: piece, id }), special: type !== "userDefined" }];
    }),
    ...extra.map((content, i) => specialToken({ content, id: model.pieces.length + i })),
  ];
  const known = new Set(added.map(({ id }) => id));
  for (const token of addedTokens(config)) if (!known.has(token.id)) added.push(token);

  const json: TokenizerJson = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    ...stages(model),
    post_processor: template(model, named, config),
    model: model.modelType === "unigram" ? unigram(model, extra) : bpe(model),
  };
  const token = (id: number | undefined) => (id === undefined ? undefined : model.pieces[id]?.piece);
  const tokens = Object.entries({
    bos_token: token(model.bosId),
    eos_token: token(model.eosId),
    pad_token: token(model.padId),
    unk_token: model.unkPiece,
  }).filter(([, content]) => content !== undefined);
  return { json, config: { ...Object.fromEntries(tokens), clean_up_tokenization_spaces: false, ...config } };
}

/** Tokenizers of transformers whose ids are the pieces' plus an offset, or in another order. */
const renumbering =
  /^(XLMRoberta|Camembert|Barthez|MBart|MBart50|Nllb|Pegasus|Reformer|XGLM|M2M100|SeamlessM4T|Speech2Text)/;

/** T5's `<extra_id_0>` is the last of the vocabulary. */
function sentinels(tokenizerClass: string, config: TokenizerConfig): string[] {
  const said = config["extra_ids"];
  const count = typeof said === "number" ? said : tokenizerClass === "T5Tokenizer" ? 100 : 0;
  return Array.from({ length: count }, (_, i) => `<extra_id_${count - 1 - i}>`);
}

/** `added_tokens_decoder` of tokenizer_config.json. */
function addedTokens(config: TokenizerConfig): AddedToken[] {
  const entries = Object.entries((config["added_tokens_decoder"] ?? {}) as Record<string, Partial<AddedToken>>);
  return entries.flatMap(([id, token]) =>
    typeof token.content === "string" && Number.isInteger(Number(id))
      ? [{ ...specialToken({ content: token.content, id: Number(id) }), special: false, ...token }]
      : [],
  ) as AddedToken[];
}

function stages(model: SentencePieceModel): Pick<TokenizerJson, "normalizer" | "pre_tokenizer" | "decoder"> {
  const { charsMap, removeExtraWhitespaces, addDummyPrefix } = model;
  const replace = (pattern: object, content: string) => ({ type: "Replace", pattern, content });
  const normalizers = [
    ...(charsMap.length === 0
      ? []
      : [{ type: "Precompiled", precompiled_charsmap: Buffer.from(charsMap).toString("base64") }]),
    ...(removeExtraWhitespaces ? [replace({ Regex: "\\A +| +\\z" }, ""), replace({ Regex: " {2,}" }, " ")] : []),
  ];
  // Words can be encoded one by one when no piece goes on beyond a space.
  const isSplit =
    model.modelType === "unigram" &&
    removeExtraWhitespaces &&
    !model.pieces.some(({ piece }) => piece.includes(space, 1));
  if (isSplit) {
    const metaspace = {
      type: "Metaspace",
      replacement: space,
      prepend_scheme: addDummyPrefix ? "always" : "never",
      split: true,
    };
    const byteFallback = [replace({ String: space }, " "), { type: "ByteFallback" }, { type: "Fuse" }];
    return {
      normalizer: { type: "Sequence", normalizers },
      pre_tokenizer: metaspace,
      decoder: model.byteFallback
        ? { type: "Sequence", decoders: [...byteFallback, strip(addDummyPrefix)] }
        : metaspace,
    };
  }
  return {
    normalizer: {
      type: "Sequence",
      normalizers: [
        ...normalizers,
        ...(addDummyPrefix ? [{ type: "Prepend", prepend: space }] : []),
        replace({ String: " " }, space),
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        replace({ String: space }, " "),
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(addDummyPrefix ? [strip(true)] : []),
      ],
    },
  };
}

const strip = (isPrefixed: boolean) => ({ type: "Strip", content: " ", start: isPrefixed ? 1 : 0, stop: 0 });

function unigram(model: SentencePieceModel, extra: readonly string[]): TokenizerJson["model"] {
  return {
    type: "Unigram",
    unk_id: model.unkId,
    vocab: [
      ...model.pieces.map(({ piece, score }) => [piece, score] as const),
      ...extra.map((token) => [token, 0] as const),
    ],
    byte_fallback: model.byteFallback,
  };
}

function bpe(model: SentencePieceModel): TokenizerJson["model"] {
  return {
    type: "BPE",
    dropout: null,
    unk_token: model.unkPiece,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: true,
    byte_fallback: model.byteFallback,
    ignore_merges: false,
    vocab: Object.fromEntries(model.pieces.map(({ piece }, id) => [piece, id])),
    merges: merges(model),
  };
}

/**
 * SentencePiece joins the neighbours whose joint piece has the highest score. As merges: for every piece all pairs of
 * pieces that make it, by the score of the whole.
 */
function merges({ pieces }: SentencePieceModel): [string, string][] {
  const ids = new Map<string, number>();
  for (const [id, { piece, type }] of pieces.entries()) {
    if (type === "normal" || type === "userDefined") ids.set(piece, id);
  }
  const found: { pair: [string, string]; score: number }[] = [];
  for (const [piece, id] of ids) {
    const { score } = pieces[id] as { score: number };
    const pairs: [string, string][] = [];
    let at = 0;
    for (const character of piece) {
      at += character.length;
      const pair: [string, string] = [piece.slice(0, at), piece.slice(at)];
      if (ids.has(pair[0]) && ids.has(pair[1])) pairs.push(pair);
    }
    const idOf = (part: string) => ids.get(part) as number;
    pairs.sort((a, b) => idOf(a[0]) - idOf(b[0]) || idOf(a[1]) - idOf(b[1]));
    for (const pair of pairs) found.push({ pair, score });
  }
  return found.sort((a, b) => b.score - a.score).map(({ pair }) => pair);
}

function template(model: SentencePieceModel, tokenizerClass: string, config: TokenizerConfig): object | null {
  const { bosId, eosId, pieces } = model;
  const idOf = (piece: string) => pieces.findIndex((each) => each.piece === piece);
  const [cls, sep] = [idOf("[CLS]"), idOf("[SEP]")];
  const text = (id: "A" | "B", type: number) => [{ Sequence: { id, type_id: type } }];
  const special = (id: number, type: number) => [
    { SpecialToken: { id: (pieces[id] as { piece: string }).piece, type_id: type } },
  ];
  const made = (single: object[], pair: object[], ids: readonly number[]) => ({
    type: "TemplateProcessing",
    single,
    pair,
    special_tokens: Object.fromEntries(
      ids.map((id) => {
        const { piece } = pieces[id] as { piece: string };
        return [piece, { id: piece, ids: [id], tokens: [piece] }];
      }),
    ),
  });
  if (cls >= 0 && sep >= 0) {
    const single = [...special(cls, 0), ...text("A", 0), ...special(sep, 0)];
    return made(single, [...single, ...text("B", 1), ...special(sep, 1)], [cls, sep]);
  }
  const said = (name: string) => (typeof config[name] === "boolean" ? (config[name] as boolean) : undefined);
  const isT5 = tokenizerClass === "T5Tokenizer" || bosId === undefined;
  const bos = (said("add_bos_token") ?? !isT5) ? bosId : undefined;
  const eos = (said("add_eos_token") ?? isT5) ? eosId : undefined;
  if (bos === undefined && eos === undefined) return null;
  const around = (id: "A" | "B", type: number) => [
    ...(bos === undefined ? [] : special(bos, type)),
    ...text(id, type),
    ...(eos === undefined ? [] : special(eos, type)),
  ];
  // Where texts only end, as in T5, both are of one type.
  const second = bos === undefined ? 0 : 1;
  const ids = [bos, eos].filter((id) => id !== undefined);
  return made(around("A", 0), [...around("A", 0), ...around("B", second)], ids);
}
