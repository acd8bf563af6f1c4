import { attention, cacheUpdate, ones, type Tensor, zeros } from "../../engine/index.ts";
import type { Cache, ForwardInputs } from "../family.ts";

/** Dropout at one rate, drawing from `key` by a stream that no other dropout of the model uses. */
export interface DropoutSite {
  readonly key: Tensor;
  readonly rate: number;
  readonly stream: number;
}

export interface CausalAttentionOptions {
  /** Multiplies the products of queries and keys; usually 1/sqrt(K). */
  readonly scale: number;
  readonly inputs: ForwardInputs;
  /** Name of this layer's entries in the cache: `<name>.k` and `<name>.v`. */
  readonly cacheName: string;
  /** Receives the updated cache when the inputs carry one. */
  readonly newCache: Record<string, Tensor>;
  /** Added to the scores: [B or 1, H or 1, T or 1, S], S as long as the cache where there is one. */
  readonly bias?: Tensor | undefined;
  /** On the attention weights. */
  readonly dropout?: DropoutSite | undefined;
  /** A token sees only that many latest ones, itself included; all when absent. */
  readonly window?: number | undefined;
  /** Scaled products s become cap * tanh(s / cap). */
  readonly softCap?: number | undefined;
}

/**
 * Causal attention of q[B,T,H,K] over k, v[B,T,G,K] -> [B,T,H,K]. With a cache, k and v first go to rows
 * start..start+T-1 of the cache's [B,S,G,K], which is what the queries see; with segments, a query sees keys of its own
 * document only. Query head h reads key-value head floor(h / (H/G)).
 */
export function causalAttention(q: Tensor, k: Tensor, v: Tensor, options: CausalAttentionOptions): Tensor {
  const { scale, inputs, cacheName, newCache, window, softCap, bias } = options;
  const { cache, start } = inputs;
  const kind = {
    causal: true,
    scale,
    ...(window === undefined ? {} : { window }),
    ...(softCap === undefined ? {} : { softCap }),
    ...(bias === undefined ? {} : { bias }),
  };
  if (cache !== undefined) {
    const rows = start ?? zeros([q.shape[0] as number], "int32");
    const keys = cacheUpdate(cached(cache, `${cacheName}.k`), k, rows);
    const values = cacheUpdate(cached(cache, `${cacheName}.v`), v, rows);
    newCache[`${cacheName}.k`] = keys;
    newCache[`${cacheName}.v`] = values;
    return attention(q, keys, values, { ...kind, start: rows });
  }
  return attention(q, k, v, { ...kind, ...documentsAndDropout(options) });
}

function cached(cache: Cache, name: string): Tensor {
  const tensor = cache[name];
  if (tensor !== undefined) return tensor;
  throw new Error(`cache: expected "${name}", got [${Object.keys(cache).join(", ")}]. Fix: make it by cacheShape.`);
}

/**
 * Attention of q, k, v[B,T,H,K] in which every token sees all tokens of its row or, with segments, of its own document ->
 * [B,T,H,K].
 */
export function bidirectionalAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: Pick<CausalAttentionOptions, "scale" | "inputs" | "bias" | "dropout">,
): Tensor {
  const { scale, bias } = options;
  const kind = { causal: false, scale, ...(bias === undefined ? {} : { bias }) };
  return attention(q, k, v, { ...kind, ...documentsAndDropout(options) });
}

/**
 * Attention of q[B,T,H,K] over the keys and values of a source, `<name>.k` and `<name>.v`[B,S,H,K] of `memory` -> [B,T,H,K].
 * With `sourceSegments` a token sees what of the source belongs to its own document; without `segments` that is document 1.
 */
export function crossAttention(
  q: Tensor,
  options: Pick<CausalAttentionOptions, "scale" | "inputs" | "dropout"> & {
    readonly memory: Cache;
    readonly name: string;
  },
): Tensor {
  const { memory, name, scale, inputs, dropout } = options;
  const { segments, sourceSegments } = inputs;
  const [B, T] = q.shape as [number, number];
  return attention(q, cached(memory, `${name}.k`), cached(memory, `${name}.v`), {
    causal: false,
    scale,
    ...(sourceSegments === undefined
      ? {}
      : { qSegments: segments ?? ones([B, T], "int32"), kSegments: sourceSegments }),
    ...(dropout === undefined ? {} : { dropout }),
  });
}

function documentsAndDropout({ inputs: { segments }, dropout }: Pick<CausalAttentionOptions, "inputs" | "dropout">) {
  return {
    ...(segments === undefined ? {} : { qSegments: segments, kSegments: segments }),
    ...(dropout === undefined ? {} : { dropout }),
  };
}
