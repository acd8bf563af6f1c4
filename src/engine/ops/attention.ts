import { vjpOfDecomposition } from "../autodiff/vjp.ts";
import type { DType } from "../ir/dtype.ts";
import { defineOp, type OpDef } from "../ir/op.ts";
import { formatShape } from "../ir/shape.ts";
import { type Attrs, apply, type Node, type Tensor, type TensorType } from "../ir/tensor.ts";
import { add, div, mul, sub } from "./arithmetic.ts";
import { attentionGradSamples, attentionSamples } from "./attention-samples.ts";
import { cast } from "./cast.ts";
import { equal, less, lessEqual, logicalAnd } from "./compare.ts";
import { matmul } from "./matmul.ts";
import { max } from "./max.ts";
import { expandDims, reshape, squeeze } from "./reshape.ts";
import { select } from "./select.ts";
import { iota, scalar } from "./source.ts";
import { stopGradient } from "./stop-gradient.ts";
import { sum } from "./sum.ts";
import { at, expectDType, expectFloating, expectRank, expectShape, fail } from "./support.ts";
import { transpose } from "./transpose.ts";
import { exp, log } from "./unary.ts";

/** Sizes of q[B,T,H,K] and k[B,S,G,K], checked, with the optional inputs that follow `first`. */
function check(inputs: readonly TensorType[], attrs: Attrs, op: string, first: number): void {
  const [q, k, v] = [0, 1, 2].map((i) => at(inputs, i, op)) as [TensorType, TensorType, TensorType];
  for (const [type, name] of [
    [q, "q[B,T,H,K]"],
    [k, "k[B,S,G,K]"],
    [v, "v[B,S,G,K]"],
  ] as const) {
    expectRank(type, 4, op, name);
    expectFloating(type, op, name);
  }
  expectShape(v, k.shape, op, "v");
  const [B, T, H, K] = q.shape as [number, number, number, number];
  const [B2, S, G, K2] = k.shape as [number, number, number, number];
  if (B !== B2 || K !== K2) {
    fail(
      op,
      "q[B,T,H,K] and k[B,S,G,K] of equal B and K",
      `${formatShape(q.shape)} and ${formatShape(k.shape)}`,
      "check the head width and the batch",
    );
  }
  if (G === 0 || H % G !== 0) {
    fail(op, `a number of key-value heads dividing the ${H} query heads`, `${G}`, "check numKeyValueHeads");
  }
  let next = first;
  if (attrs["hasStart"] === true) {
    expectDType(at(inputs, next, op), "int32", op, "start");
    expectShape(at(inputs, next++, op), [B], op, "start");
  }
  if (attrs["hasSegments"] === true) {
    for (const [name, length] of [
      ["qSegments", T],
      ["kSegments", S],
    ] as const) {
      expectDType(at(inputs, next, op), "int32", op, name);
      expectShape(at(inputs, next++, op), [B, length], op, name);
    }
  }
}

/** Which keys each query may see, bool broadcastable to [B,T,S], or undefined when all. */
function visible(T: number, S: number, optional: readonly Tensor[], attrs: Attrs): Tensor | undefined {
  const rest = [...optional];
  const start = attrs["hasStart"] === true ? reshape(rest.shift() as Tensor, [-1, 1, 1]) : scalar(0, "int32");
  const terms: Tensor[] = [];
  if (attrs["causal"] === true) {
    const query = add(iota([1, T, 1], { axis: 1 }), start);
    const key = iota([1, 1, S], { axis: 2 });
    terms.push(lessEqual(key, query));
    const window = attrs["window"] as number;
    if (window > 0) terms.push(less(sub(query, window), key));
  }
  if (attrs["hasSegments"] === true) {
    terms.push(equal(expandDims(rest[0] as Tensor, 2), expandDims(rest[1] as Tensor, 1)));
  }
  return terms.length === 0 ? undefined : terms.reduce(logicalAnd);
}

/** x[B,N,H,K] -> [B,G,H/G,N,K]: heads grouped by the key-value head that they share. */
function grouped(x: Tensor, G: number): Tensor {
  const [B, N, H, K] = x.shape as [number, number, number, number];
  return transpose(reshape(x, [B, N, G, H / G, K]), [0, 2, 3, 1, 4]);
}
/** The inverse of {@link grouped}. */
function ungrouped(x: Tensor): Tensor {
  const [B, G, R, N, K] = x.shape as [number, number, number, number, number];
  return reshape(transpose(x, [0, 3, 1, 2, 4]), [B, N, G * R, K]);
}

/** A product of {@link Attrs} `operands`: with "bfloat16" both are rounded to it; sums are float32 either way. */
function product(a: Tensor, b: Tensor, attrs: Attrs, transposed: { transposeA?: boolean; transposeB?: boolean } = {}) {
  const dtype = (attrs["operands"] as DType | undefined) ?? "float32";
  return matmul(cast(a, dtype), cast(b, dtype), transposed);
}
/** Element type of the outputs. */
const outputType = (attrs: Attrs): DType => (attrs["dtype"] as DType | undefined) ?? "float32";

/** Scaled scores [B,G,R,T,S], -inf where a key is hidden. */
function maskedScores(q: Tensor, k: Tensor, optional: readonly Tensor[], attrs: Attrs): Tensor {
  const G = k.shape[2] as number;
  const scores = mul(product(grouped(q, G), grouped(k, G), attrs, { transposeB: true }), attrs["scale"] as number);
  const mask = visible(q.shape[1] as number, k.shape[1] as number, optional, attrs);
  if (mask === undefined) return scores;
  const wide = reshape(mask, [mask.shape[0] as number, 1, 1, ...mask.shape.slice(1)]);
  return select(wide, scores, Number.NEGATIVE_INFINITY);
}

/** -inf, the log-sum-exp of a row that sees nothing, replaced by 0 so that no infinities are subtracted. */
const finite = (x: Tensor): Tensor => select(equal(x, Number.NEGATIVE_INFINITY), 0, x);

const kernelInts = ({ attrs }: Node): number[] => [
  attrs["causal"] === true ? 1 : 0,
  attrs["hasStart"] === true ? 1 : 0,
  attrs["hasSegments"] === true ? 1 : 0,
  attrs["window"] as number,
  attrs["operands"] === "bfloat16" ? 1 : 0,
];

/**
 * (q, k, v, start?, qSegments?, kSegments?) -> out, lse. attrs: {causal, hasStart, hasSegments, window (0 none), scale,
 * operands? ("bfloat16": q, k, v, the cotangent and the weights are rounded to it where they enter products; default
 * "float32"), dtype? (of out; default "float32")}. q, k and v may be of any floating type.
 */
export const attentionOp: OpDef = defineOp({
  name: "attention",
  infer: (inputs, attrs) => {
    check(inputs, attrs, "attention", 3);
    const q = at(inputs, 0, "attention");
    const [B, T, H] = q.shape as [number, number, number];
    return [
      { shape: q.shape, dtype: outputType(attrs) },
      { shape: [B, H, T], dtype: "float32" },
    ];
  },
  decompose: (inputs, attrs) => {
    const [q, k, v, ...optional] = inputs as [Tensor, Tensor, Tensor, ...Tensor[]];
    const scores = maskedScores(q, k, optional, attrs);
    const top = finite(stopGradient(max(scores, { axes: -1, keepDims: true })));
    const weights = exp(sub(scores, top));
    const total = sum(weights, { axes: -1, keepDims: true });
    const isBlind = equal(total, 0);
    const safe = select(isBlind, 1, total);
    const out = ungrouped(div(product(weights, grouped(v, v.shape[2] as number), attrs), safe));
    const lse = squeeze(select(isBlind, Number.NEGATIVE_INFINITY, add(top, log(safe))), 4);
    const [B, T, H] = q.shape as [number, number, number];
    return [cast(out, outputType(attrs)), reshape(lse, [B, H, T])];
  },
  gradient: (context) => {
    const { node, inputs, outputs, cotangents } = context;
    const [dout, dlse] = cotangents;
    if (dout === undefined || dlse !== undefined) return vjpOfDecomposition(attentionOp, context);
    const [q, k, v, ...optional] = inputs as [Tensor, Tensor, Tensor, ...Tensor[]];
    const [out, lse] = outputs as [Tensor, Tensor];
    const dtype = [k, v].every((x) => x.dtype === q.dtype) ? q.dtype : "float32";
    const grads = apply(attentionGradOp, [q, k, v, out, lse, dout, ...optional], { ...node.attrs, dtype });
    return [...grads, ...optional.map(() => undefined)];
  },
  lower: {
    kind: "kernel",
    kernel: "attention",
    ints: kernelInts,
    floats: (node) => [node.attrs["scale"] as number],
    strided: [0, 1, 2],
    unitStride: [0, 1, 2],
    narrowInputs: [0, 1, 2],
    narrowOutputs: [0],
  },
  operands: [0, 1, 2],
  samples: attentionSamples,
});

/** Gradients of {@link attentionOp}: (q, k, v, out, lse, dout, optional inputs) -> dq, dk, dv of attribute `dtype`. */
export const attentionGradOp: OpDef = defineOp({
  name: "attentionGrad",
  infer: (inputs, attrs) => {
    check(inputs, attrs, "attentionGrad", 6);
    for (const [i, name] of [
      [3, "out"],
      [5, "dout"],
    ] as const) {
      expectFloating(at(inputs, i, "attentionGrad"), "attentionGrad", name);
      expectShape(at(inputs, i, "attentionGrad"), at(inputs, 0, "attentionGrad").shape, "attentionGrad", name);
    }
    return inputs.slice(0, 3).map(({ shape }) => ({ shape, dtype: outputType(attrs) }));
  },
  decompose: (inputs, attrs) => {
    const [q, k, v, out, lse, dout, ...optional] = inputs as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      ...Tensor[],
    ];
    const [B, S, G, K] = k.shape as [number, number, number, number];
    const [T, H] = [q.shape[1] as number, q.shape[2] as number];
    const rows = reshape(finite(lse), [B, G, H / G, T, 1]);
    const weights = exp(sub(maskedScores(q, k, optional, attrs), rows));
    const dy = grouped(cast(dout, "float32"), G);
    const delta = sum(mul(dy, grouped(cast(out, "float32"), G)), { axes: -1, keepDims: true });
    const scale = attrs["scale"] as number;
    const dscores = mul(weights, sub(product(dy, grouped(v, G), attrs, { transposeB: true }), delta));
    // [B,G,R,S,K] summed over the R query heads that share a key-value head.
    const shared = (x: Tensor): Tensor => reshape(transpose(sum(x, { axes: 2 }), [0, 2, 1, 3]), [B, S, G, K]);
    return [
      mul(ungrouped(product(dscores, grouped(k, G), attrs)), scale),
      mul(shared(product(dscores, grouped(q, G), attrs, { transposeA: true })), scale),
      shared(product(weights, dy, attrs, { transposeA: true })),
    ].map((x) => cast(x, outputType(attrs)));
  },
  gradient: (context) => vjpOfDecomposition(attentionGradOp, context),
  lower: {
    kind: "kernel",
    kernel: "attention_grad",
    ints: kernelInts,
    floats: (node) => [node.attrs["scale"] as number],
    strided: [0, 1, 2],
    unitStride: [0, 1, 2],
    narrowInputs: [0, 1, 2, 3, 5],
    narrowOutputs: [0, 1, 2],
  },
  operands: [0, 1, 2, 5],
  samples: attentionGradSamples,
});

/** What a query may see, and the scale of the scores. */
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
}

/**
 * Scaled dot-product attention (Vaswani et al. 2017) with shared key-value heads (Ainslie et al. 2023):
 * q[B,T,H,K], k[B,S,G,K], v[B,S,G,K] -> [B,T,H,K]; query head h reads key-value head floor(h / (H/G)). Scores and
 * result in float32; a query that may see no key gives 0.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { causal, start, qSegments, kSegments, window } = options;
  if ((qSegments === undefined) !== (kSegments === undefined)) {
    fail("attention", "qSegments and kSegments together", "one of them", "pass both, or neither");
  }
  if (window !== undefined && (!causal || window < 1)) {
    fail("attention", "a window of at least 1 with causal", `window ${window}, causal ${causal}`, "set causal: true");
  }
  if (start !== undefined && !causal) {
    fail("attention", "start only with causal", "causal: false", "leave start out: without causal every key is seen");
  }
  const optional = [start, qSegments, kSegments].filter((t): t is Tensor => t !== undefined);
  return apply(attentionOp, [q, k, v, ...optional], {
    causal,
    hasStart: start !== undefined,
    hasSegments: qSegments !== undefined,
    window: window ?? 0,
    scale: options.scale ?? 1 / Math.sqrt(q.shape[3] ?? 1),
  })[0] as Tensor;
}
