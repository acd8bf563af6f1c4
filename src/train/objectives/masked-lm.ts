import { PlinthError } from "../../base/index.ts";
import { type Batch, type BatchSource, ignoreIndex, type Tokenizer } from "../../data/index.ts";
import {
  add,
  cast,
  constant,
  cumsum,
  floor,
  foldKey,
  gather,
  iota,
  less,
  lessEqual,
  logicalAnd,
  maximum,
  minimum,
  mul,
  notEqual,
  randomUniform,
  reshape,
  scatterAlong,
  select,
  sub,
  sum,
  type Tensor,
  takeAlong,
  topK,
  zeros,
} from "../../engine/index.ts";
import { headOf, type ModelConfig, type ModelFamily } from "../../models/index.ts";
import type { LossFunction, TrainBatch, TrainData } from "../types.ts";
import { type Assemble, assemblePlain } from "./assemble.ts";
import { causalLmBatch } from "./causal-lm.ts";
import { classLoss } from "./head-loss.ts";
import { addNextSentence } from "./next-sentence.ts";
import { definePretraining, requiredTokenizer } from "./pretraining.ts";

export interface MaskedLmOptions {
  /** What a hidden token is replaced by. */
  readonly maskTokenId: number;
  /** Never hidden: beginnings, separators, padding. */
  readonly specialIds?: readonly number[];
  /** Share of the tokens to predict; default 0.15. */
  readonly rate?: number;
  /** Hide whole words: for every id, whether it continues the word before it. */
  readonly continues?: readonly boolean[];
  readonly assemble?: Assemble | undefined;
  /** Activation checkpointing: keep only the inputs of the model's blocks, compute the rest again. */
  readonly remat?: boolean | undefined;
}

const defaultRate = 0.15;
/** Separates the masks' random numbers from dropout's; and the key of measurements, which have none of their own. */
const maskingFold = 0x6d61736b;
const heldOutKey = [0x68656c64, 0x6f7574];

/**
 * Masked language modelling for encoders (Devlin et al. 2019, 3.1): of the tokens of each row, a share is to be predicted;
 * of these 80 % are replaced by the mask token, 10 % by a random token, 10 % stay. Which, follows from the step's key, so
 * that every epoch hides others and a resumed run the same; measuring always hides the same. Logits are computed for the
 * tokens to be predicted only. Reads `tokens`, and where the batch has them `targets` (padding is where they are ignored),
 * `positions`, `segments`, `tokenTypes`. Gives the summed cross-entropy in nats over the tokens predicted. A model with the head
 * `pretraining` learns next sentences as well, of batches of pairs (`nextSentence` int32[B]).
 */
export function maskedLm<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  options: MaskedLmOptions,
): LossFunction {
  const { assemble = assemblePlain, remat } = options;
  if (family.kind !== "encoder") {
    throw new PlinthError(
      `masked-lm: ${family.modelType} is a decoder: its tokens do not see what comes after them`,
      "use the objective causal-lm, or an encoder such as bert",
    );
  }
  const { kind } = headOf(config);
  if (kind !== "lm" && kind !== "pretraining") {
    throw new PlinthError(
      `masked-lm: the model has the head "${kind}", which does not predict tokens`,
      'load it with the head "lm" or "pretraining"',
    );
  }
  return (trainable, frozen, batch, key) => {
    const { tokens, targets, positions, segments, tokenTypes, nextSentence } = batch as { tokens: Tensor } & Partial<
      Record<"targets" | "positions" | "segments" | "tokenTypes" | "nextSentence", Tensor>
    >;
    const masks = drawMasks(tokens, targets, key ?? constant(Int32Array.from(heldOutKey)), {
      ...options,
      vocabSize: config.vocabSize,
    });
    const inputs = { tokens: masks.tokens, positions, segments, tokenTypes, rows: masks.rows };
    const params = assemble(trainable, frozen, key);
    const outputs = family.forward(params, inputs, config, { dropoutKey: key, remat });
    const predicted = {
      logits: reshape(outputs.logits, [-1, config.vocabSize]),
      targets: reshape(masks.targets, [-1]),
    };
    const masked = { ...classLoss(predicted.logits, predicted.targets), predictions: () => predicted };
    if (nextSentence === undefined || outputs.nextSentence === undefined) return masked;
    return addNextSentence(masked, outputs.nextSentence, nextSentence);
  };
}

/** What an encoder reads and what it is to say. */
export interface Masks {
  /** int32[B,T]: the tokens, some of them hidden. */
  readonly tokens: Tensor;
  /** int32[B,R]: places to predict. */
  readonly rows: Tensor;
  /** int32[B,R]: the tokens there; ignored (-100) where a row has fewer than R. */
  readonly targets: Tensor;
}

/** Chooses what to hide of tokens[B,T], row by row. `targets`: places where they are ignored are padding. */
export function drawMasks(
  tokens: Tensor,
  targets: Tensor | undefined,
  key: Tensor,
  options: Pick<MaskedLmOptions, "maskTokenId" | "specialIds" | "rate" | "continues"> & { readonly vocabSize: number },
): Masks {
  const { maskTokenId, specialIds = [], rate = defaultRate, vocabSize } = options;
  const [B, T] = tokens.shape as [number, number];
  const most = Math.max(1, Math.ceil(rate * T));
  const own = foldKey(key, maskingFold);
  const uniform = (stream: number): Tensor => randomUniform(own, [B, T], { stream });

  let isText = specialIds.map((id) => notEqual(tokens, id)).reduce(logicalAnd, lessEqual(0, tokens));
  if (targets !== undefined) isText = logicalAnd(isText, notEqual(targets, ignoreIndex));
  const lots =
    options.continues === undefined ? uniform(0) : takeAlong(uniform(0), words(tokens, options), { axis: 1 });
  const { values, indices } = topK(select(isText, lots, -1), most);
  const count = floor(add(mul(sum(cast(isText, "float32"), { axes: [1], keepDims: true }), rate), 0.5));
  const isChosen = logicalAnd(
    less(cast(iota([B, most], { axis: 1, dtype: "int32" }), "float32"), maximum(count, 1)),
    lessEqual(0, values),
  );

  const marks = cast(isChosen, "float32");
  const hidden = scatterAlong(zeros([B, T]), indices, marks, { axis: 1, mode: "add" });
  const any = cast(minimum(floor(mul(uniform(1), vocabSize)), vocabSize - 1), "int32");
  const draw = uniform(2);
  const replaced = select(less(draw, 0.8), maskTokenId, select(less(draw, 0.9), any, tokens));
  return {
    tokens: select(less(0, hidden), replaced, tokens),
    rows: indices,
    targets: select(isChosen, takeAlong(tokens, indices, { axis: 1 }), ignoreIndex),
  };
}

/** int32[B,T]: the number of each token's word in its row, from 0. */
function words(
  tokens: Tensor,
  { continues, vocabSize }: { continues?: readonly boolean[]; vocabSize: number },
): Tensor {
  const starts = Float32Array.from({ length: vocabSize }, (_, id) => (continues?.[id] === true ? 0 : 1));
  const number = cumsum(gather(constant(starts), tokens), { axis: 1 });
  return cast(maximum(sub(number, 1), 0), "int32");
}

/** The mask token and the other special tokens of a tokenizer, and for `wholeWords` which ids continue a word. */
export function maskingOf(tokenizer: Tokenizer, options: { wholeWords?: boolean } = {}): MaskedLmOptions {
  const names = ["[MASK]", "<mask>", "<|mask|>"];
  const maskTokenId = names.map((name) => tokenizer.tokenToId(name)).find((id) => id !== undefined);
  if (maskTokenId === undefined) {
    throw new PlinthError(
      `masked-lm: the tokenizer has no mask token (${names.join(", ")})`,
      "train one with it among the special tokens, or use the tokenizer of a BERT",
    );
  }
  const specialIds = [...new Set([...tokenizer.specialTokens.values(), maskTokenId])];
  if (options.wholeWords !== true) return { maskTokenId, specialIds };
  const tokens = Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.idToToken(id) ?? "");
  const isWordPiece = tokens.some((token) => token.startsWith("##"));
  const continues = tokens.map((token) =>
    isWordPiece ? token.startsWith("##") : /^[\p{L}\p{N}]/u.test(token) && !/^[ĠĊ▁]/.test(token),
  );
  return { maskTokenId, specialIds, continues };
}

/** Names the arrays of a batch for {@link maskedLm}. Bytes are those that the tokens to predict stand for on average. */
export function maskedLmBatch(batch: Batch, rate = defaultRate): TrainBatch {
  const { arrays, tokenCount, byteCount } = causalLmBatch(batch);
  return { arrays, tokenCount: Math.round(tokenCount * rate), byteCount: byteCount * rate };
}

/** A source of batches as data for `train`. */
export function maskedLmData(source: BatchSource, rate = defaultRate): TrainData {
  return {
    next: async () => maskedLmBatch(await source.next(), rate),
    state: () => source.state(),
    restore: (state) => source.restore(state),
  };
}

/** Held-out batches as `train` reads them. */
export function maskedLmHeldOut(batches: AsyncIterable<Batch>, rate = defaultRate) {
  return async function* (): AsyncGenerator<TrainBatch> {
    for await (const batch of batches) yield maskedLmBatch(batch, rate);
  };
}

definePretraining({
  name: "mlm",
  summary: "predict masked tokens (encoders)",
  defaultOf: "encoder",
  prepare(model, { remat, assemble, wholeWords = false }) {
    const masking = maskingOf(requiredTokenizer(model, "mlm"), { wholeWords });
    const loss = maskedLm(model.family, model.config, { ...masking, remat, assemble });
    return { loss, data: maskedLmData, heldOut: maskedLmHeldOut };
  },
});
