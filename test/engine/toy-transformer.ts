import {
  adamw,
  add,
  attention,
  crossEntropy,
  div,
  gather,
  gelu,
  greaterEqual,
  iota,
  layerNorm,
  matmul,
  mean,
  minimum,
  mul,
  NdArray,
  reshape,
  type Shape,
  select,
  softmax,
  split,
  sqrt,
  square,
  sum,
  type Tensor,
  type TensorType,
  transpose,
  valueAndGrad,
  withScope,
} from "../../src/engine/index.ts";

/** Sizes of a small GPT, written with ops alone so that the engine's tests need no models. */
export interface ToyConfig {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly batch: number;
  /** Attention from products and softmax instead of the op with a kernel of its own. */
  readonly plainAttention?: boolean;
}

export type Weights<T> = Record<string, T>;

export interface ToyState<T> {
  readonly params: Weights<T>;
  readonly m: Weights<T>;
  readonly v: Weights<T>;
}

export function toyShapes(c: ToyConfig): Record<string, Shape> {
  const D = c.width;
  const shapes: Record<string, Shape> = { wte: [c.vocabulary, D], wpe: [c.context, D] };
  for (let i = 0; i < c.layers; i++) {
    Object.assign(shapes, {
      [`h${i}.ln1.w`]: [D],
      [`h${i}.ln1.b`]: [D],
      [`h${i}.qkv.w`]: [D, 3 * D],
      [`h${i}.qkv.b`]: [3 * D],
      [`h${i}.out.w`]: [D, D],
      [`h${i}.out.b`]: [D],
      [`h${i}.ln2.w`]: [D],
      [`h${i}.ln2.b`]: [D],
      [`h${i}.up.w`]: [D, 4 * D],
      [`h${i}.up.b`]: [4 * D],
      [`h${i}.down.w`]: [4 * D, D],
      [`h${i}.down.b`]: [D],
    });
  }
  return { ...shapes, "ln.w": [D], "ln.b": [D] };
}

function plainAttention(q: Tensor, k: Tensor, v: Tensor): Tensor {
  const [, T, , K] = q.shape as [number, number, number, number];
  const [qh, kh, vh] = [q, k, v].map((t) => transpose(t, [0, 2, 1, 3])) as [Tensor, Tensor, Tensor];
  const scores = mul(matmul(qh, kh, { transposeB: true }), 1 / Math.sqrt(K));
  const visible = greaterEqual(iota([T, T], { axis: 0 }), iota([T, T], { axis: 1 }));
  return transpose(matmul(softmax(select(visible, scores, -1e30)), vh), [0, 2, 1, 3]);
}

/** Logits [B, T, V]. */
export function toyForward(p: Weights<Tensor>, tokens: Tensor, c: ToyConfig): Tensor {
  const [B, T] = tokens.shape as [number, number];
  const w = (name: string): Tensor => p[name] as Tensor;
  let x = add(gather(w("wte"), tokens), gather(w("wpe"), iota([T], { axis: 0 })));
  for (let i = 0; i < c.layers; i++) {
    x = withScope(`h.${i}`, () => {
      const h = layerNorm(x, w(`h${i}.ln1.w`), w(`h${i}.ln1.b`), { eps: 1e-5 });
      const qkv = add(matmul(h, w(`h${i}.qkv.w`)), w(`h${i}.qkv.b`));
      const [q, k, v] = split(qkv, 3, { axis: -1 }).map((t) => reshape(t, [B, T, c.heads, c.width / c.heads])) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const heads = c.plainAttention === true ? plainAttention(q, k, v) : attention(q, k, v, { causal: true });
      const a = reshape(heads, [B, T, c.width]);
      const y = add(x, add(matmul(a, w(`h${i}.out.w`)), w(`h${i}.out.b`)));
      const n = layerNorm(y, w(`h${i}.ln2.w`), w(`h${i}.ln2.b`), { eps: 1e-5 });
      const up = gelu(add(matmul(n, w(`h${i}.up.w`)), w(`h${i}.up.b`)), { approximate: true });
      return add(y, add(matmul(up, w(`h${i}.down.w`)), w(`h${i}.down.b`)));
    });
  }
  return matmul(layerNorm(x, w("ln.w"), w("ln.b"), { eps: 1e-5 }), w("wte"), { transposeB: true });
}

/** Forward, backward, clipping by global norm and AdamW. */
export function toyStep(c: ToyConfig) {
  return (state: ToyState<Tensor>, tokens: Tensor, targets: Tensor, lr: Tensor) => {
    const loss = (p: Weights<Tensor>): Tensor =>
      mean(
        crossEntropy(reshape(toyForward(p, tokens, c), [c.batch * c.context, c.vocabulary]), reshape(targets, [-1])),
      );
    const { value, grads } = valueAndGrad(loss)(state.params);
    const norm = sqrt(
      Object.values(grads).reduce<Tensor | number>((total, g) => add(total, sum(square(g))), 0) as Tensor,
    );
    const gradScale = minimum(1, div(1, norm));
    const next: { params: Weights<Tensor>; m: Weights<Tensor>; v: Weights<Tensor> } = { params: {}, m: {}, v: {} };
    for (const [name, grad] of Object.entries(grads)) {
      const updated = adamw(
        {
          param: state.params[name] as Tensor,
          grad,
          m: state.m[name] as Tensor,
          v: state.v[name] as Tensor,
          lr,
          gradScale,
          biasCorrection1: 0.1,
          biasCorrection2: 0.05,
        },
        { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 },
      );
      next.params[name] = updated.param;
      next.m[name] = updated.m;
      next.v[name] = updated.v;
    }
    return { state: next, loss: value, norm };
  };
}

export function toySpecs(c: ToyConfig): [ToyState<TensorType>, TensorType, TensorType, TensorType] {
  const params = Object.fromEntries(
    Object.entries(toyShapes(c)).map(([name, shape]) => [name, { shape, dtype: "float32" as const }]),
  );
  const ids = { shape: [c.batch, c.context], dtype: "int32" as const };
  return [{ params, m: params, v: params }, ids, ids, { shape: [], dtype: "float32" }];
}

/** Arguments of the step with values that depend on names and sizes only. */
export function toyArguments(c: ToyConfig): [ToyState<NdArray>, NdArray, NdArray, NdArray] {
  let state = 12345;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const fill = (value: (name: string) => number): Weights<NdArray> =>
    Object.fromEntries(
      Object.entries(toyShapes(c)).map(([name, shape]) => {
        const array = NdArray.zeros("float32", shape);
        for (let i = 0; i < array.size; i++) array.data[i] = value(name);
        return [name, array];
      }),
    );
  const ids = (): NdArray => {
    const array = NdArray.zeros("int32", [c.batch, c.context]);
    for (let i = 0; i < array.size; i++) array.data[i] = Math.floor((next() + 0.5) * c.vocabulary);
    return array;
  };
  const params = fill((name) => (/ln.*w$/.test(name) ? 1 : 0) + next() * 0.2);
  const moments: ToyState<NdArray> = { params, m: fill(() => next() * 1e-3), v: fill(() => (next() + 0.5) * 1e-4) };
  return [moments, ids(), ids(), NdArray.scalar(1e-3)];
}
