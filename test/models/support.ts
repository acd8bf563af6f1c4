import { join } from "node:path";
import { packageRoot } from "../../src/base/index.ts";
import {
  adamw,
  add,
  type Backend,
  cast,
  createBackend,
  crossEntropy,
  div,
  jit,
  minimum,
  NdArray,
  notEqual,
  reshape,
  scalar,
  sqrt,
  square,
  sum,
  type Tensor,
  unflatten,
  valueAndGrad,
} from "../../src/engine/index.ts";
import { type Cache, loadModel, type Model, readSafetensors } from "../../src/models/index.ts";

export const goldenDir = join(packageRoot(), "test", "golden");

/** All backends; one that this machine cannot run carries the reason. */
export const backends: readonly { name: string; backend?: Backend; skip: string | false }[] = (
  ["reference", "wasm", "native"] as const
).map((name) => {
  try {
    return { name, backend: createBackend(name), skip: false };
  } catch (error) {
    return { name, skip: (error as Error).message };
  }
});

/** A golden model, the reference's values for it, and which attention implementations of the reference gave logits. */
export async function loadGolden(
  name: string,
): Promise<{ model: Model; value: (name: string) => NdArray; implementations: readonly string[] }> {
  const dir = join(goldenDir, name);
  const [model, file] = [await loadModel(dir), await readSafetensors(join(dir, "golden.safetensors"))];
  const implementations = ["eager", "sdpa"].filter((name) => file.entries.has(`logits.${name}`));
  return { model, value: (name) => file.array(name), implementations };
}

/** Largest difference relative to the largest expected magnitude (infinity norms). Both must have the same shape. */
export function relativeError(actual: NdArray, expected: NdArray): number {
  if (`${actual.shape}` !== `${expected.shape}`) throw new Error(`shapes ${actual.shape} and ${expected.shape} differ`);
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < expected.size; i++) {
    const e = expected.data[i] as number;
    difference = Math.max(difference, Math.abs((actual.data[i] as number) - e));
    magnitude = Math.max(magnitude, Math.abs(e));
  }
  return difference / magnitude;
}

/** Copies, so that an array can be donated or kept. */
export function copyParams(params: ReadonlyMap<string, NdArray>): Map<string, NdArray> {
  return new Map([...params].map(([name, array]) => [name, copy(array)]));
}

function copy(array: NdArray): NdArray {
  return new NdArray(array.dtype, array.shape, array.data.slice());
}

/** Mean cross-entropy of logits[B,T,V] over the targets that are not -100. */
export function meanLoss(logits: Tensor, targets: Tensor): Tensor {
  const [B, T, V] = logits.shape as [number, number, number];
  const losses = crossEntropy(reshape(logits, [B * T, V]), reshape(targets, [B * T]), { ignoreIndex: -100 });
  const counted = cast(notEqual(targets, -100), "float32");
  return div(sum(losses), sum(counted));
}

export interface AdamWSettings {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly maxGradNorm: number;
}

type Flat = Record<string, Tensor>;

/** Mean loss of a batch; default that of the logits against `targets`. */
export type MeanLoss = (flat: Flat, batch: Flat) => Tensor;

function languageModelLoss({ family, config }: Model): MeanLoss {
  return (flat, { targets, ...inputs }) =>
    meanLoss(
      family.forward(unflatten(Object.entries(flat)), inputs as { tokens: Tensor }, config).logits,
      targets as Tensor,
    );
}

/** Losses of `steps` AdamW steps on one batch, each taken before its update; decay on matrices only. */
export async function adamwLosses(
  model: Model,
  batch: Readonly<Record<string, NdArray>>,
  { steps, backend, ...options }: AdamWSettings & { readonly steps: number; readonly backend: Backend },
  loss: MeanLoss = languageModelLoss(model),
): Promise<number[]> {
  const { family, config, params } = model;
  const specs = family.parameters(config);
  const step = jit(
    (state: { params: Flat; m: Flat; v: Flat }, inputs: Flat, bias: [Tensor, Tensor]) => {
      const { value, grads } = valueAndGrad((flat: Flat) => loss(flat, inputs))(state.params);
      const squares = Object.values(grads).map((g) => sum(square(g)));
      const norm = sqrt(squares.reduce((a, b) => add(a, b)));
      const gradScale = minimum(div(options.maxGradNorm, add(norm, 1e-6)), 1);
      const next: { params: Flat; m: Flat; v: Flat } = { params: {}, m: {}, v: {} };
      for (const [name, param] of Object.entries(state.params)) {
        const [grad, m, v] = [grads, state.m, state.v].map((tree) => tree[name]) as [Tensor, Tensor, Tensor];
        const weightDecay = specs[name]?.decay === true ? options.weightDecay : 0;
        const lr = scalar(options.lr);
        const updated = adamw(
          { param, grad, m, v, lr, gradScale, biasCorrection1: bias[0], biasCorrection2: bias[1] },
          { ...options, weightDecay },
        );
        next.params[name] = updated.param;
        next.m[name] = updated.m;
        next.v[name] = updated.v;
      }
      return { loss: value, ...next };
    },
    { backend, donate: [0], name: "adamwStep" },
  );
  const zeros = (): Record<string, NdArray> =>
    Object.fromEntries([...params].map(([name, { shape }]) => [name, NdArray.zeros("float32", shape)]));
  let state = { params: Object.fromEntries(copyParams(params)), m: zeros(), v: zeros() };
  const losses: number[] = [];
  for (let i = 1; i <= steps; i++) {
    const bias: [NdArray, NdArray] = [NdArray.scalar(1 - options.beta1 ** i), NdArray.scalar(1 - options.beta2 ** i)];
    const { loss, ...next } = await step(state, batch, bias);
    losses.push(loss.item());
    state = next;
  }
  return losses;
}

/** Logits[B,T,V] of one forward pass. */
export async function logitsOf(
  { family, config, params }: Model,
  inputs: Partial<Record<"segments" | "positions" | "source" | "sourceSegments", NdArray>> & { tokens: NdArray },
  backend: Backend,
): Promise<NdArray> {
  type Inputs = { [K in keyof typeof inputs]: Tensor };
  const forward = jit(
    (tree: Record<string, Tensor>, inputs: Inputs) =>
      family.forward(unflatten(Object.entries(tree)), inputs, config).logits,
    { backend },
  );
  return forward(Object.fromEntries(params), inputs);
}

/** Greedy ids and the logits they came from, by the cache: the prompt at once, then token by token. */
export async function decodeGreedily(
  model: Model,
  prompt: NdArray,
  steps: number,
  backend: Backend,
): Promise<{ ids: Int32Array; logits: NdArray }> {
  const { family, config } = model;
  const [B, T] = prompt.shape as [number, number];
  const vocab = config.vocabSize;
  const step = jit(
    (params: Record<string, Tensor>, cache: Cache, inputs: { tokens: Tensor; start: Tensor; lastIndex: Tensor }) => {
      const { logits, cache: next } = family.forward(unflatten(Object.entries(params)), { ...inputs, cache }, config);
      return { logits, cache: next as Cache };
    },
    { backend, donate: [1] },
  );
  const shapes = family.cacheShape(config, B, T + steps);
  let cache = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, NdArray.zeros("float32", shape)]),
  );
  let tokens = prompt;
  const logits = new Float32Array(B * steps * vocab);
  const ids = new Int32Array(B * steps);
  for (let i = 0; i < steps; i++) {
    const start = i === 0 ? 0 : T + i - 1;
    const rows = (n: number): NdArray => NdArray.int32([B], new Int32Array(B).fill(n));
    const inputs = { tokens, start: rows(start), lastIndex: rows((tokens.shape[1] as number) - 1) };
    const out = await step(Object.fromEntries(model.params), cache, inputs);
    cache = out.cache as Record<string, NdArray>;
    for (let b = 0; b < B; b++) {
      const row = (out.logits.data as Float32Array).subarray(b * vocab, (b + 1) * vocab);
      logits.set(row, (b * steps + i) * vocab);
      ids[b * steps + i] = row.indexOf(Math.max(...row));
    }
    tokens = NdArray.int32(
      [B, 1],
      Array.from({ length: B }, (_, b) => ids[b * steps + i] as number),
    );
  }
  return { ids, logits: NdArray.float32([B, steps, vocab], logits) };
}
