import { trainCharTokenizer } from "../../src/data/index.ts";
import { NdArray as Arrays, type Jitted, jit, type NdArray, type Tensor, unflatten } from "../../src/engine/index.ts";
import type { Model } from "../../src/models/index.ts";
import { reference, tinyModel } from "../generate/support.ts";

/** A random character model that knows the letters a to h, space, newline and some punctuation, with a context of 24. */
export async function letterModel(dials: { hiddenSize?: number } = {}): Promise<Model> {
  const tokenizer = await trainCharTokenizer(["abcdefgh \n.,:"], { specialTokens: ["<|endoftext|>"] });
  return { ...tinyModel("llama", { vocabSize: tokenizer.vocabSize, contextLength: 24, ...dials }), tokenizer };
}

type Forward = Jitted<[params: Readonly<Record<string, Tensor>>, tokens: Tensor], Tensor>;
const forwards = new WeakMap<Model, Forward>();

/** Log-probability of every token given those before it: the model's full logits, log-softmax by hand in float64. */
export async function logprobsByHand(model: Model, ids: readonly number[]): Promise<number[]> {
  const run: Forward =
    forwards.get(model) ??
    jit(
      (params: Readonly<Record<string, Tensor>>, tokens: Tensor) =>
        model.family.forward(unflatten(Object.entries(params)), { tokens }, model.config).logits,
      { backend: reference },
    );
  forwards.set(model, run);
  const logits: NdArray = await run(
    Object.fromEntries(model.params),
    Arrays.int32([1, ids.length - 1], ids.slice(0, -1)),
  );
  const values = (await logits.read()) as Float32Array;
  const width = model.config.vocabSize;
  return ids.slice(1).map((next, i) => {
    const row = [...values.subarray(i * width, (i + 1) * width)];
    const top = Math.max(...row);
    return (row[next] as number) - top - Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
  });
}
