import {
  attention,
  broadcastTo,
  cacheUpdate,
  dropout,
  equal,
  expandDims,
  iota,
  lessEqual,
  logicalAnd,
  matmul,
  mul,
  reshape,
  select,
  softmax,
  type Tensor,
  transpose,
  zeros,
} from "../../engine/index.ts";
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
  /** On the attention weights. */
  readonly dropout?: DropoutSite | undefined;
}

/**
 * Causal attention of q[B,T,H,K] over k, v[B,T,G,K] -> [B,T,H,K]. With a cache, k and v first go to rows
 * start..start+T-1 of the cache's [B,S,G,K], which is what the queries see; with segments, a query sees keys of its own
 * document only. Query head h reads key-value head floor(h / (H/G)).
 */
export function causalAttention(q: Tensor, k: Tensor, v: Tensor, options: CausalAttentionOptions): Tensor {
  const { scale, inputs, cacheName, newCache } = options;
  const { cache, start, segments } = inputs;
  if (cache !== undefined) {
    const rows = start ?? zeros([q.shape[0] as number], "int32");
    const keys = cacheUpdate(cached(cache, `${cacheName}.k`), k, rows);
    const values = cacheUpdate(cached(cache, `${cacheName}.v`), v, rows);
    newCache[`${cacheName}.k`] = keys;
    newCache[`${cacheName}.v`] = values;
    return attention(q, keys, values, { causal: true, scale, start: rows });
  }
  if (options.dropout !== undefined) return droppedAttention(q, k, v, { ...options, dropout: options.dropout });
  const documents = segments === undefined ? {} : { qSegments: segments, kSegments: segments };
  return attention(q, k, v, { causal: true, scale, ...documents });
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
  options: Pick<CausalAttentionOptions, "scale" | "inputs" | "dropout">,
): Tensor {
  const { scale, inputs, dropout } = options;
  if (dropout !== undefined) return droppedAttention(q, k, v, { scale, inputs, dropout, causal: false });
  const { segments } = inputs;
  const documents = segments === undefined ? {} : { qSegments: segments, kSegments: segments };
  return attention(q, k, v, { causal: false, scale, ...documents });
}

/**
 * The same from simpler ops, with dropout on the attention weights (Vaswani et al. 2017, as PyTorch does it). Keeps
 * [B,H,T,T] in memory: training with `attn_pdrop` above zero costs that.
 */
export function droppedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: { scale: number; inputs: ForwardInputs; dropout: DropoutSite; causal?: boolean },
): Tensor {
  const { scale, inputs, dropout: site } = options;
  const [B, T, H, K] = q.shape as [number, number, number, number];
  const G = k.shape[2] as number;
  const heads = (x: Tensor): Tensor => {
    const grouped = broadcastTo(reshape(x, [B, T, G, 1, K]), [B, T, G, H / G, K]);
    return transpose(reshape(grouped, [B, T, H, K]), [0, 2, 1, 3]);
  };
  const scores = mul(matmul(transpose(q, [0, 2, 1, 3]), heads(k), { transposeB: true }), scale);
  const masks: Tensor[] = [];
  if (options.causal !== false) masks.push(lessEqual(iota([1, 1, T, T], { axis: 3 }), iota([1, 1, T, T], { axis: 2 })));
  if (inputs.segments !== undefined) masks.push(sameSegment(inputs.segments));
  const allowed = masks.length === 0 ? undefined : masks.reduce(logicalAnd);
  const weights = softmax(allowed === undefined ? scores : select(allowed, scores, -1e30));
  const mixed = matmul(dropout(weights, site.rate, site.key, { stream: site.stream }), heads(v));
  return transpose(mixed, [0, 2, 1, 3]);
}

/** segments[B,T] -> bool[B,1,T,T] */
function sameSegment(segments: Tensor): Tensor {
  const [B, T] = segments.shape as [number, number];
  const column = reshape(segments, [B, 1, T, 1]);
  return equal(column, expandDims(expandDims(segments, 1), 1));
}
