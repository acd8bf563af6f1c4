import { matmul, type Shape, softCap, type Tensor, type Tree, withScope } from "../../engine/index.ts";
import type { ForwardContext, ForwardInputs, ForwardOutputs, ModelConfig, ModelFamily } from "../family.ts";
import { selectLast } from "./decoder.ts";
import { linear } from "./linear.ts";
import { moduleAt, plainWeight, requiredParameter } from "./module.ts";

/** What a decoder computes below its head. */
export interface TrunkOutputs {
  /** [B,T,D], normalised */
  readonly x: Tensor;
  /** The updated cache; empty where none went in. */
  readonly newCache: Record<string, Tensor>;
  /** As {@link ForwardOutputs.auxiliaryLoss}. */
  readonly auxiliaryLoss?: Tensor | undefined;
}

export interface CausalHead<C extends ModelConfig> {
  /** Path of the table of token embeddings, which is the head where `tieWordEmbeddings` says so. */
  readonly embeddings: string;
  /** Path of the head that is not tied; default `lm_head`. */
  readonly head?: string;
  /** tokens[B,T] -> x[B,T,D]: all of the model but the head. */
  trunk(params: Tree<Tensor>, inputs: ForwardInputs, config: C, context: ForwardContext | undefined): TrunkOutputs;
  /** Logits y become cap * tanh(y / cap); undefined where they stay. */
  softCap?(config: C): number | undefined;
}

/** `forward` and `hidden` of a decoder whose logits are the product of its last hidden states with a head, tied or not. */
export function causalHead<C extends ModelConfig>(parts: CausalHead<C>): Pick<ModelFamily<C>, "forward" | "hidden"> {
  const { embeddings, head = "lm_head", trunk, softCap: capOf = () => undefined } = parts;
  const pathOf = (c: C): string => (c.tieWordEmbeddings ? embeddings : head);
  const product = (x: Tensor, params: Tree<Tensor>, c: C): Tensor => {
    const p = moduleAt(params, pathOf(c));
    // An adapter of the embeddings does not stand around the product with the table.
    return c.tieWordEmbeddings ? matmul(x, requiredParameter(p, "weight"), { transposeB: true }) : linear(x, p);
  };
  return {
    forward(params, inputs, c, context) {
      const { x, newCache, auxiliaryLoss } = trunk(params, inputs, c, context);
      const last = inputs.lastIndex === undefined ? x : selectLast(x, inputs.lastIndex);
      const logits = withScope("lm_head", () => {
        const [y, cap] = [product(last, params, c), capOf(c)];
        return cap === undefined ? y : softCap(y, cap);
      });
      const outputs: ForwardOutputs = auxiliaryLoss === undefined ? { logits } : { logits, auxiliaryLoss };
      return inputs.cache === undefined ? outputs : { ...outputs, cache: newCache };
    },

    hidden(params, inputs, c, context) {
      const headWeight = plainWeight(moduleAt(params, pathOf(c)));
      if (headWeight === undefined) return undefined;
      const { x, auxiliaryLoss } = trunk(params, inputs, c, context);
      return { hidden: x, headWeight, softCap: capOf(c), auxiliaryLoss };
    },
  };
}

/** A cache of keys and values of one shape, `<layer>.k` and `<layer>.v`, for the layers that `layerName` names. */
export function kvCacheShape(
  { numLayers, numKvHeads, headDim }: ModelConfig,
  [batch, length]: readonly [batch: number, length: number],
  layerName: (layer: number) => string,
): Record<string, Shape> {
  const out: Record<string, Shape> = {};
  for (let layer = 0; layer < numLayers; layer++) {
    for (const part of ["k", "v"]) out[`${layerName(layer)}.${part}`] = [batch, length, numKvHeads, headDim];
  }
  return out;
}
