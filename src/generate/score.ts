import { PlinthError } from "../base/index.ts";
import { argmax, crossEntropy, equal, jit, NdArray, reshape, type Tensor, unflatten } from "../engine/index.ts";
import { expectDecoder, type Model } from "../models/index.ts";
import { bucketLength, bucketRows } from "./buckets.ts";
import { jitOptions, perModel, type RunOptions } from "./per-model.ts";

/** Target that is not scored. */
export const ignoreTarget = -100;

/** Tokens that go in, and for each the token that should come out (or {@link ignoreTarget}). */
export interface ScoreRequest {
  readonly tokens: Int32Array;
  readonly targets: Int32Array;
}

export interface Score {
  /** Natural log-probability of each target; 0 where it was not scored. */
  readonly logprobs: Float32Array;
  /** Whether the target is the model's likeliest token at that place; 1 or 0. */
  readonly isGreedy: Uint8Array;
}

export interface ScoreOptions extends RunOptions {
  /** Sequences per call; default 8. Changes the speed and nothing else. */
  readonly batchSize?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each call with the sequences done so far. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Memory that the logits of one call may take. */
const logitsBytes = 256 * 2 ** 20;

/**
 * Log-probabilities of given tokens, by the loss the trainer uses. Sequences are padded on the right to a length that
 * depends on the sequence alone, so a score depends on neither the batch size nor the order.
 * Throws PlinthError when a sequence is longer than the context or holds an id outside the vocabulary.
 */
export async function scoreSequences(
  model: Model,
  requests: readonly ScoreRequest[],
  options: ScoreOptions = {},
): Promise<Score[]> {
  const { contextLength, vocabSize } = model.config;
  const byLength = new Map<number, number[]>();
  for (const [i, request] of requests.entries()) {
    checkRequest(request, contextLength, vocabSize);
    const length = bucketLength(request.tokens.length, contextLength);
    byLength.set(length, [...(byLength.get(length) ?? []), i]);
  }
  expectDecoder(model.family, "scoring", model.config);
  const run = scorerFor(model, options);
  const results = new Array<Score>(requests.length);
  let done = 0;
  for (const [length, members] of [...byLength].sort(([a], [b]) => b - a)) {
    const fitting = Math.max(1, Math.floor(logitsBytes / (length * vocabSize * 4)));
    const batch = Math.min(options.batchSize ?? 8, fitting);
    for (let at = 0; at < members.length; at += batch) {
      options.signal?.throwIfAborted();
      const part = members.slice(at, at + batch);
      const scores = await run(
        part.map((i) => requests[i] as ScoreRequest),
        bucketRows(part.length, batch),
        length,
      );
      part.forEach((i, row) => {
        results[i] = scores[row] as Score;
      });
      done += part.length;
      options.onProgress?.(done, requests.length);
    }
  }
  return results;
}

type Run = (requests: readonly ScoreRequest[], rows: number, length: number) => Promise<Score[]>;
/** The scoring programs of a model, shared between calls. */
const scorerFor = perModel(createScorer);

function createScorer(model: Model, how: RunOptions): Run {
  type Tensors = Readonly<Record<string, Tensor>>;
  const score = jit(
    (params: Tensors, tokens: Tensor, targets: Tensor) => {
      const { logits } = model.family.forward(unflatten(Object.entries(params)), { tokens }, model.config);
      const flat = reshape(logits, [-1, model.config.vocabSize]);
      const wanted = reshape(targets, [-1]);
      return {
        loss: reshape(crossEntropy(flat, wanted, { ignoreIndex: ignoreTarget }), tokens.shape),
        isGreedy: reshape(equal(argmax(flat), wanted), tokens.shape),
      };
    },
    { ...jitOptions(how), name: "score" },
  );

  return async (requests, rows, length) => {
    const tokens = new Int32Array(rows * length);
    const targets = new Int32Array(rows * length).fill(ignoreTarget);
    for (const [row, request] of requests.entries()) {
      tokens.set(request.tokens, row * length);
      targets.set(request.targets, row * length);
    }
    const out = await score(
      Object.fromEntries(model.params),
      NdArray.int32([rows, length], tokens),
      NdArray.int32([rows, length], targets),
    );
    const loss = (await out.loss.read()) as Float32Array;
    const isGreedy = (await out.isGreedy.read()) as Uint8Array;
    return requests.map((request, row) => {
      const from = row * length;
      const to = from + request.tokens.length;
      return { logprobs: loss.slice(from, to).map((nats) => 0 - nats), isGreedy: isGreedy.slice(from, to) };
    });
  };
}

function checkRequest({ tokens, targets }: ScoreRequest, context: number, vocabSize: number): void {
  if (tokens.length !== targets.length) {
    throw new Error(`scoreSequences: expected a target per token, got ${targets.length} for ${tokens.length}.`);
  }
  if (tokens.length > context) {
    throw new PlinthError(
      `a sequence of ${tokens.length} tokens does not fit into the model's context of ${context}`,
      "cut it into windows",
    );
  }
  const isValid = (id: number) => id >= 0 && id < vocabSize;
  const wrong = tokens.find((id) => !isValid(id)) ?? targets.find((id) => !isValid(id) && id !== ignoreTarget);
  if (wrong !== undefined) {
    throw new PlinthError(
      `token id ${wrong} is outside the model's vocabulary of ${vocabSize}`,
      "use the tokenizer that belongs to the model",
    );
  }
}
