import { vjpOfDecomposition } from "../autodiff/vjp.ts";
import { defineOp, type OpDef } from "../ir/op.ts";
import { apply, apply1, type Tensor } from "../ir/tensor.ts";
import { add, div, sub } from "./arithmetic.ts";
import {
  checkAttention,
  dropWeights,
  finite,
  grouped,
  maskedScores,
  optionalInputs,
  outputType,
  product,
  sizesOf,
  ungrouped,
} from "./attention-definition.ts";
import { attentionBiasGradOp, attentionFloats, attentionGradOp, attentionInts } from "./attention-grad.ts";
import { attentionSamples } from "./attention-samples.ts";
import { cast } from "./cast.ts";
import { equal } from "./compare.ts";
import { max } from "./max.ts";
import { reshape, squeeze } from "./reshape.ts";
import { select } from "./select.ts";
import { stopGradient } from "./stop-gradient.ts";
import { sum } from "./sum.ts";
import { at, fail } from "./support.ts";
import { exp, log } from "./unary.ts";

/**
 * (q, k, v, start?, qSegments?, kSegments?, bias?, key?) -> out, lse. attrs: {causal, hasStart, hasSegments, window
 * (0 none), scale; and, left out where unused, operands ("bfloat16": q, k, v, the cotangent and the weights are rounded to
 * it where they enter products), dtype (of out; "float32"), hasBias, softCap, dropoutRate, stream}. q, k, v and the bias may
 * be of any floating type.
 */
export const attentionOp: OpDef = defineOp({
  name: "attention",
  infer: (inputs, attrs) => {
    checkAttention(inputs, attrs, "attention", 3);
    const q = at(inputs, 0, "attention");
    const [B, T, H] = q.shape as [number, number, number];
    return [
      { shape: q.shape, dtype: outputType(attrs) },
      { shape: [B, H, T], dtype: "float32" },
    ];
  },
  decompose: (inputs, attrs) => {
    const [q, k, v, ...rest] = inputs as [Tensor, Tensor, Tensor, ...Tensor[]];
    const { B, T, H, G } = sizesOf(q, k);
    const optional = optionalInputs(rest, attrs);
    const { scores } = maskedScores(q, k, optional, attrs);
    const top = finite(stopGradient(max(scores, { axes: -1, keepDims: true })));
    const weights = exp(sub(scores, top));
    const total = sum(weights, { axes: -1, keepDims: true });
    const isBlind = equal(total, 0);
    const safe = select(isBlind, 1, total);
    const out = ungrouped(div(product(dropWeights(weights, optional, attrs), grouped(v, G), attrs), safe));
    const lse = squeeze(select(isBlind, Number.NEGATIVE_INFINITY, add(top, log(safe))), 4);
    return [cast(out, outputType(attrs)), reshape(lse, [B, H, T])];
  },
  gradient: (context) => {
    const { node, inputs, outputs, cotangents, needed } = context;
    const [dout, dlse] = cotangents;
    if (dout === undefined || dlse !== undefined) return vjpOfDecomposition(attentionOp, context);
    const [q, k, v, ...rest] = inputs as [Tensor, Tensor, Tensor, ...Tensor[]];
    const operands = [q, k, v, ...(outputs as [Tensor, Tensor]), dout, ...rest];
    const dtype = [k, v].every((x) => x.dtype === q.dtype) ? q.dtype : "float32";
    const grads = apply(attentionGradOp, operands, { ...node.attrs, dtype });
    const { bias } = optionalInputs(rest, node.attrs);
    const dbias = rest.map((x, i) => {
      if (x !== bias || needed[3 + i] !== true) return undefined;
      const full = apply1(attentionBiasGradOp, operands, { ...node.attrs, dtype: "float32" });
      return x.shape[2] === 1 ? sum(full, { axes: 2, keepDims: true }) : full;
    });
    return [...grads, ...dbias];
  },
  lower: {
    kind: "kernel",
    kernel: "attention",
    ints: attentionInts,
    floats: attentionFloats,
    strided: [0, 1, 2],
    unitStride: [0, 1, 2],
    narrowInputs: [0, 1, 2],
    narrowOutputs: [0],
  },
  operands: [0, 1, 2],
  samples: attentionSamples,
});

/** What a query may see, and how products become scores. */
export interface AttentionOptions {
  /** Only keys at positions up to the query's own. */
  readonly causal: boolean;
  /** Factor on q·k; default 1/sqrt(K). */
  readonly scale?: number;
  /** int32[B]: position of the first query of each row among the keys (with a cache); default 0. */
  readonly start?: Tensor;
  /** int32[B,T] and int32[B,S] document ids: a query sees only keys of its own document. */
  readonly qSegments?: Tensor;
  readonly kSegments?: Tensor;
  /** With causal: see only that many latest positions, the query's own included. */
  readonly window?: number;
  /** Added to the scaled (and capped) products: [B or 1, H or 1, T or 1, S]. */
  readonly bias?: Tensor;
  /** Scaled products s become cap * tanh(s / cap) (Gemma 2). */
  readonly softCap?: number;
  /** On the weights; the same key int32[2] and stream drop the same ones. */
  readonly dropout?: { readonly key: Tensor; readonly rate: number; readonly stream: number };
}

/**
 * Scaled dot-product attention (Vaswani et al. 2017) with shared key-value heads (Ainslie et al. 2023):
 * q[B,T,H,K], k[B,S,G,K], v[B,S,G,K] -> float32[B,T,H,K]; query head h reads key-value head floor(h / (H/G)). Scores are
 * float32 and never held as a whole; a query that may see no key gives 0.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { causal, start, qSegments, kSegments, window, bias, softCap, dropout } = options;
  if ((qSegments === undefined) !== (kSegments === undefined)) {
    fail("attention", "qSegments and kSegments together", "one of them", "pass both, or neither");
  }
  if (window !== undefined && (!causal || window < 1)) {
    fail("attention", "a window of at least 1 with causal", `window ${window}, causal ${causal}`, "set causal: true");
  }
  if (start !== undefined && !causal) {
    fail("attention", "start only with causal", "causal: false", "leave start out: without causal every key is seen");
  }
  if (softCap !== undefined && !(softCap > 0)) {
    fail("attention", "a softCap above 0", `${softCap}`, "leave softCap out for none");
  }
  const drops = dropout !== undefined && dropout.rate !== 0;
  const optional = [start, qSegments, kSegments, bias, drops ? dropout.key : undefined].filter(
    (t): t is Tensor => t !== undefined,
  );
  return apply(attentionOp, [q, k, v, ...optional], {
    causal,
    hasStart: start !== undefined,
    hasSegments: qSegments !== undefined,
    window: window ?? 0,
    scale: options.scale ?? 1 / Math.sqrt(q.shape[3] ?? 1),
    ...(bias === undefined ? {} : { hasBias: true }),
    ...(softCap === undefined ? {} : { softCap }),
    ...(drops ? { dropoutRate: dropout.rate, stream: dropout.stream } : {}),
  })[0] as Tensor;
}
