import { PlinthError } from "../../base/index.ts";
import {
  add,
  broadcastTo,
  dropout,
  expandDims,
  gather,
  iota,
  mul,
  remat,
  reshape,
  type Tensor,
} from "../../engine/index.ts";
import type { ForwardContext, ForwardInputs, ModelConfig } from "../family.ts";
import type { DropoutSite } from "./attention.ts";

/**
 * Checks a decoder's inputs. Throws when the sequence, or the cache it goes to, is longer than the model's context,
 * naming `limitKey` of config.json, and when segments come with a cache.
 */
export function checkInputs(inputs: ForwardInputs, config: ModelConfig, limitKey: string): void {
  const { tokens, cache, segments } = inputs;
  const { modelType, contextLength } = config;
  if (tokens.rank !== 2) {
    throw new PlinthError(`${modelType}: expected tokens[B,T], got rank ${tokens.rank}`, "reshape the tokens");
  }
  const cacheLength = cache === undefined ? 0 : Math.max(0, ...Object.values(cache).map((t) => t.shape[1] as number));
  const length = Math.max(tokens.shape[1] as number, cacheLength);
  if (length > contextLength) {
    const what = cacheLength === length ? "cache" : "sequence";
    throw new PlinthError(
      `${modelType}: expected a ${what} of at most ${contextLength} tokens (${limitKey}), got ${length}`,
      "shorten or split the text, or use a model with a longer context",
    );
  }
  if (cache !== undefined && segments !== undefined) {
    throw new PlinthError(`${modelType}: expected segments or a cache, got both`, "decode one document per row");
  }
}

/** The source int32[B,S] that an encoder-decoder reads. Throws PlinthError where there is none. */
export function expectSource({ source }: ForwardInputs, { modelType }: ModelConfig): Tensor {
  if (source !== undefined) return source;
  throw new PlinthError(`${modelType}: expected a source to read, got none`, "give `source`, or `memory` made of one");
}

/** Positions int32[B,T] of the tokens: as given, or counted from `start`. */
export function positionsOf({ tokens, positions, start }: ForwardInputs): Tensor {
  if (positions !== undefined) return positions;
  const [B, T] = tokens.shape as [number, number];
  const offsets = iota([B, T], { axis: 1, dtype: "int32" });
  return start === undefined ? offsets : add(offsets, broadcastTo(expandDims(start, 1), [B, T]));
}

/** hidden[B,T,D] -> [B,D]: the row of each sequence that `lastIndex` (int32[B]) names. */
export function selectLast(hidden: Tensor, lastIndex: Tensor): Tensor {
  const [B, T, D] = hidden.shape as [number, number, number];
  const rows = add(mul(iota([B], { axis: 0, dtype: "int32" }), T), lastIndex);
  return gather(reshape(hidden, [B * T, D]), rows);
}

/** hidden[B,T,D] -> [B,R,D]: the tokens of each sequence that `rows` (int32[B,R]) names. */
export function selectRows(hidden: Tensor, rows: Tensor): Tensor {
  const [B, T, D] = hidden.shape as [number, number, number];
  const first = mul(iota(rows.shape, { axis: 0, dtype: "int32" }), T);
  return gather(reshape(hidden, [B * T, D]), add(first, rows));
}

/**
 * Runs one block of a model, x[B,T,D] -> [B,T,D] and what else it gives. With `remat` in the context only x is kept for the gradient, and what
 * is inside the block is computed again when the backward pass gets there; the bits are the same.
 */
export function checkpointed<R extends Tensor | readonly Tensor[]>(
  context: ForwardContext | undefined,
  x: Tensor,
  block: (x: Tensor) => R,
): R {
  return context?.remat === true ? remat(block)(x) : block(x);
}

/** One call of a model's forward pass: hands every dropout its own random stream. */
export class DropoutStreams {
  readonly #key: Tensor | undefined;
  #next = 0;

  constructor(context: ForwardContext | undefined) {
    this.#key = context?.dropoutKey;
  }

  /** Takes the next stream; undefined when dropout is off or the rate is 0. */
  site(rate: number): DropoutSite | undefined {
    const stream = this.#next++;
    return this.#key === undefined || rate === 0 ? undefined : { key: this.#key, rate, stream };
  }

  apply(x: Tensor, rate: number): Tensor {
    const site = this.site(rate);
    return site === undefined ? x : dropout(x, site.rate, site.key, { stream: site.stream });
  }
}
