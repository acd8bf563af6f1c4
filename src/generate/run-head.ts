import { PlinthError } from "../base/index.ts";
import { type EncodedPair, encodePairs, type TextPair, type Tokenizer } from "../data/index.ts";
import { jit, l2Normalize, NdArray, sigmoid, softmax, type Tensor, unflatten } from "../engine/index.ts";
import { type HeadKind, headOf, layers, type Model } from "../models/index.ts";
import { bucketLength, bucketRows } from "./buckets.ts";
import { jitOptions, perModel, type RunOptions } from "./per-model.ts";

export interface RunHeadOptions extends RunOptions {
  /** Texts per call; default 16. Changes the speed and nothing else. */
  readonly batchSize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each call with the texts done so far. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** What a model's head says of one text: `values` of `shape`, [labels], or [tokens of the text, ...]. */
export interface HeadResult {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/**
 * What a model's head says of texts, in their order: logits, or with head `none` hidden states. Texts are padded on the right to a
 * length that depends on the text alone, so a result depends on neither the batch size nor the order. Throws PlinthError when a text is
 * longer than the model's context.
 */
export async function runHead(
  model: Model,
  texts: readonly Pick<EncodedPair, "ids" | "types">[],
  options: RunHeadOptions = {},
): Promise<HeadResult[]> {
  return runBatches(model, texts, options, headFor(model, options));
}

/** One unit vector per text: the mean of its tokens' hidden states. Throws PlinthError when the model has another head than `none`. */
export async function embedTexts(
  model: Model,
  texts: readonly string[],
  options: RunHeadOptions = {},
): Promise<Float32Array[]> {
  expectHead(model, "none", "embedding texts");
  const encoded = await encodeTextPairs(
    model,
    texts.map((text) => ({ text })),
  );
  return (await runBatches(model, encoded, options, embedderFor(model, options))).map(({ values }) => values);
}

/** Probabilities of a sequence classifier's labels for every text or pair; values, where the problem is a regression. */
export async function classifyTexts(
  model: Model,
  texts: readonly TextPair[],
  options: RunHeadOptions = {},
): Promise<Float32Array[]> {
  expectHead(model, "sequence-classification", "classifying texts");
  const results = await runBatches(model, await encodeTextPairs(model, texts), options, classifierFor(model, options));
  return results.map(({ values }) => values);
}

/** Throws PlinthError when a model has another head than `what` needs. */
export function expectHead({ config }: Model, kind: HeadKind, what: string): void {
  if (headOf(config).kind === kind) return;
  throw new PlinthError(
    `${what} needs a model with the head "${kind}"; this one has "${headOf(config).kind}"`,
    "train one with plinth adapt, or open the model with that head",
  );
}

/** Texts as a model of theirs reads them, cut to its context. A decoder's text ends with its own last token. */
export async function encodeTextPairs(model: Model, texts: readonly TextPair[]): Promise<EncodedPair[]> {
  const { tokenizer, config, family } = model;
  const options = { context: config.contextLength, closed: family.kind === "encoder" };
  if (tokenizer !== undefined) return encodePairs(tokenizer as Tokenizer, texts, options);
  throw new PlinthError("the model has no tokenizer.json, and reading text needs it", "put it into the model's folder");
}

type Run = (params: Readonly<Record<string, NdArray>>, batch: Batch) => Promise<NdArray>;
type Batch = { readonly tokens: NdArray; readonly segments: NdArray; readonly tokenTypes: NdArray };

const headFor = perModel((model, how) => program(model, how, "head", (logits) => logits));
const embedderFor = perModel((model, how) =>
  program(model, how, "embed", (hidden, segments) => l2Normalize(layers.meanToken(hidden, { segments }))),
);
const classifierFor = perModel((model, how) =>
  program(model, how, "classify", (logits) => {
    const { problem } = headOf(model.config);
    if (problem === "regression") return logits;
    return problem === "multi_label_classification" ? sigmoid(logits) : softmax(logits);
  }),
);

function program(
  model: Model,
  how: RunOptions,
  name: string,
  finish: (logits: Tensor, segments: Tensor) => Tensor,
): Run {
  return jit(
    (params: Readonly<Record<string, Tensor>>, batch: { tokens: Tensor; segments: Tensor; tokenTypes: Tensor }) =>
      finish(model.family.forward(unflatten(Object.entries(params)), batch, model.config).logits, batch.segments),
    { ...jitOptions(how), name },
  ) as Run;
}

async function runBatches(
  model: Model,
  texts: readonly Pick<EncodedPair, "ids" | "types">[],
  { batchSize = 16, signal, onProgress }: RunHeadOptions,
  run: Run,
): Promise<HeadResult[]> {
  const { contextLength } = model.config;
  const params = Object.fromEntries(model.params);
  const byLength = new Map<number, number[]>();
  for (const [i, { ids }] of texts.entries()) {
    if (ids.length > contextLength) {
      throw new PlinthError(
        `a text of ${ids.length} tokens does not fit into the model's context of ${contextLength}`,
        "cut it",
      );
    }
    const length = bucketLength(ids.length, contextLength);
    byLength.set(length, [...(byLength.get(length) ?? []), i]);
  }
  const results = new Array<HeadResult>(texts.length);
  let done = 0;
  for (const [length, members] of [...byLength].sort(([a], [b]) => b - a)) {
    for (let at = 0; at < members.length; at += batchSize) {
      signal?.throwIfAborted();
      const part = members.slice(at, at + batchSize);
      const rows = bucketRows(part.length, batchSize);
      const out = await run(
        params,
        padTexts(
          part.map((i) => texts[i] as EncodedPair),
          rows,
          length,
        ),
      );
      const values = (await out.read()) as Float32Array;
      const perRow = values.length / rows;
      part.forEach((i, row) => {
        const own = values.slice(row * perRow, (row + 1) * perRow);
        const tokens = (texts[i] as EncodedPair).ids.length;
        const inner = out.shape.slice(1);
        // Rows of tokens: without those of the padding.
        const isPerToken = inner.length === 2;
        results[i] = isPerToken
          ? { shape: [tokens, inner[1] as number], values: own.slice(0, tokens * (inner[1] as number)) }
          : { shape: inner, values: own };
      });
      done += part.length;
      onProgress?.(done, texts.length);
    }
  }
  return results;
}

function padTexts(texts: readonly Pick<EncodedPair, "ids" | "types">[], rows: number, length: number): Batch {
  const [tokens, segments, tokenTypes] = [0, 1, 2].map(() => new Int32Array(rows * length)) as [
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  for (const [row, { ids, types }] of texts.entries()) {
    tokens.set(ids, row * length);
    segments.fill(1, row * length, row * length + ids.length);
    tokenTypes.set(types, row * length);
  }
  const array = (data: Int32Array): NdArray => NdArray.int32([rows, length], data);
  return { tokens: array(tokens), segments: array(segments), tokenTypes: array(tokenTypes) };
}
