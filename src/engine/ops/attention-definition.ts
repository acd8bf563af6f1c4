import type { DType } from "../ir/dtype.ts";
import { formatShape } from "../ir/shape.ts";
import type { Attrs, Tensor, TensorType } from "../ir/tensor.ts";
import { add, div, mul, sub } from "./arithmetic.ts";
import { cast } from "./cast.ts";
import { equal, greaterEqual, less, lessEqual, logicalAnd } from "./compare.ts";
import { matmul } from "./matmul.ts";
import { randomUniform } from "./random.ts";
import { expandDims, reshape } from "./reshape.ts";
import { select } from "./select.ts";
import { iota, scalar } from "./source.ts";
import { at, expectDType, expectFloating, expectRank, expectShape, fail } from "./support.ts";
import { transpose } from "./transpose.ts";
import { square, tanh } from "./unary.ts";

// What attention means, from simpler ops: shared by the op and its gradients. Heads are grouped as [B,G,R,...], R query
// heads for each of G key-value heads.

/** Sizes of q[B,T,H,K] and k[B,S,G,K]. */
export interface AttentionSizes {
  readonly B: number;
  readonly T: number;
  readonly H: number;
  readonly K: number;
  readonly S: number;
  readonly G: number;
}

export function sizesOf(q: TensorType, k: TensorType): AttentionSizes {
  const [B, T, H, K] = q.shape as [number, number, number, number];
  const [, S, G] = k.shape as [number, number, number];
  return { B, T, H, K, S, G };
}

/** The inputs after the fixed ones, by the attributes that announce them. */
export interface Optional<T> {
  readonly start?: T;
  readonly qSegments?: T;
  readonly kSegments?: T;
  readonly bias?: T;
  readonly key?: T;
}

export function optionalInputs<T>(inputs: readonly T[], attrs: Attrs): Optional<T> {
  const rest = [...inputs];
  const next = (): T => at([rest.shift()], 0, "attention") as T;
  return {
    ...(attrs["hasStart"] === true ? { start: next() } : {}),
    ...(attrs["hasSegments"] === true ? { qSegments: next(), kSegments: next() } : {}),
    ...(attrs["hasBias"] === true ? { bias: next() } : {}),
    ...(rateOf(attrs) > 0 ? { key: next() } : {}),
  };
}

export const rateOf = (attrs: Attrs): number => (attrs["dropoutRate"] as number | undefined) ?? 0;
export const softCapOf = (attrs: Attrs): number => (attrs["softCap"] as number | undefined) ?? 0;
export const scaleOf = (attrs: Attrs): number => attrs["scale"] as number;
/** Element type of the outputs. */
export const outputType = (attrs: Attrs): DType => (attrs["dtype"] as DType | undefined) ?? "float32";

/** Throws unless q, k, v and the optional inputs from `first` on have the types that the attributes announce. */
export function checkAttention(inputs: readonly TensorType[], attrs: Attrs, op: string, first: number): void {
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
  const { B, T, H, K, S, G } = sizesOf(q, k);
  if (B !== k.shape[0] || K !== k.shape[3]) {
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
  const rate = rateOf(attrs);
  if (!(rate >= 0 && rate < 1)) fail(op, "a dropout rate in [0, 1)", `${rate}`, "use e.g. 0.1");
  const { start, qSegments, kSegments, bias, key } = optionalInputs(inputs.slice(first), attrs);
  for (const [type, shape, name] of [
    [start, [B], "start"],
    [qSegments, [B, T], "qSegments"],
    [kSegments, [B, S], "kSegments"],
    [key, [2], "the dropout key"],
  ] as const) {
    if (type === undefined) continue;
    expectDType(type, "int32", op, name);
    expectShape(type, shape, op, name);
  }
  if (bias === undefined) return;
  expectFloating(bias, op, "a bias");
  const full = [B, H, T, S];
  if (bias.shape.length !== 4 || bias.shape[3] !== S || bias.shape.some((n, i) => n !== 1 && n !== full[i])) {
    fail(
      op,
      `a bias that broadcasts to ${formatShape(full)} with all ${S} keys`,
      formatShape(bias.shape),
      "give it as [B or 1, H or 1, T or 1, S]",
    );
  }
}

/** Which keys each query may see, bool broadcastable to [B,T,S], or undefined when all. */
function visible({ T, S }: AttentionSizes, optional: Optional<Tensor>, attrs: Attrs): Tensor | undefined {
  const terms: Tensor[] = [];
  if (attrs["causal"] === true) {
    const start = optional.start === undefined ? scalar(0, "int32") : reshape(optional.start, [-1, 1, 1]);
    const query = add(iota([1, T, 1], { axis: 1 }), start);
    const key = iota([1, 1, S], { axis: 2 });
    terms.push(lessEqual(key, query));
    const window = attrs["window"] as number;
    if (window > 0) terms.push(less(sub(query, window), key));
  }
  if (optional.qSegments !== undefined && optional.kSegments !== undefined) {
    terms.push(equal(expandDims(optional.qSegments, 2), expandDims(optional.kSegments, 1)));
  }
  return terms.length === 0 ? undefined : terms.reduce(logicalAnd);
}

/** x[B,N,H,K] -> [B,G,H/G,N,K]: heads grouped by the key-value head that they share. */
export function grouped(x: Tensor, G: number): Tensor {
  const [B, N, H, K] = x.shape as [number, number, number, number];
  return transpose(reshape(x, [B, N, G, H / G, K]), [0, 2, 3, 1, 4]);
}
/** The inverse of {@link grouped}. */
export function ungrouped(x: Tensor): Tensor {
  const [B, G, R, N, K] = x.shape as [number, number, number, number, number];
  return reshape(transpose(x, [0, 3, 1, 2, 4]), [B, N, G * R, K]);
}

/** A product as attribute `operands` says: with "bfloat16" both are rounded to it; sums are float32 either way. */
export function product(
  a: Tensor,
  b: Tensor,
  attrs: Attrs,
  transposed: { transposeA?: boolean; transposeB?: boolean } = {},
): Tensor {
  const dtype = (attrs["operands"] as DType | undefined) ?? "float32";
  return matmul(cast(a, dtype), cast(b, dtype), transposed);
}

/** Scores [B,G,R,T,S], -inf where a key is hidden, and their slope by the scaled products where that is not 1. */
export function maskedScores(
  q: Tensor,
  k: Tensor,
  optional: Optional<Tensor>,
  attrs: Attrs,
): { readonly scores: Tensor; readonly slope?: Tensor } {
  const sizes = sizesOf(q, k);
  const { H, G } = sizes;
  let scores = mul(product(grouped(q, G), grouped(k, G), attrs, { transposeB: true }), scaleOf(attrs));
  const cap = softCapOf(attrs);
  let slope: Tensor | undefined;
  if (cap > 0) {
    const bounded = tanh(div(scores, cap));
    scores = mul(bounded, cap);
    slope = sub(1, square(bounded));
  }
  if (optional.bias !== undefined) {
    const [b, h, t, s] = optional.bias.shape as [number, number, number, number];
    const heads = h === 1 ? [1, 1] : [G, H / G];
    scores = add(scores, reshape(cast(optional.bias, "float32"), [b, ...heads, t, s]));
  }
  const mask = visible(sizes, optional, attrs);
  if (mask !== undefined) {
    const wide = reshape(mask, [mask.shape[0] as number, 1, 1, ...mask.shape.slice(1)]);
    scores = select(wide, scores, Number.NEGATIVE_INFINITY);
  }
  return slope === undefined ? { scores } : { scores, slope };
}

/** weights[B,G,R,T,S] (or their gradients) after dropout: element i of [B,H,T,S] is kept by number i of the key's stream. */
export function dropWeights(weights: Tensor, optional: Optional<Tensor>, attrs: Attrs): Tensor {
  if (optional.key === undefined) return weights;
  const rate = rateOf(attrs);
  const stream = attrs["stream"] as number;
  const kept = greaterEqual(randomUniform(optional.key, weights.shape, { stream }), rate);
  return select(kept, mul(weights, 1 / (1 - rate)), 0);
}

/** -inf, the log-sum-exp of a row that sees nothing, replaced by 0 so that no infinities are subtracted. */
export const finite = (x: Tensor): Tensor => select(equal(x, Number.NEGATIVE_INFINITY), 0, x);
