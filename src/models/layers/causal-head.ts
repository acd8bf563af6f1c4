import {
  cast,
  constant,
  matmul,
  maximum,
  notEqual,
  type Shape,
  softCap,
  sub,
  sum,
  type Tensor,
  type Tree,
  withScope,
} from "../../engine/index.ts";
import type { ForwardContext, ForwardInputs, ForwardOutputs, ModelConfig, ModelFamily } from "../family.ts";
import { headOf } from "../head-config.ts";
import { selectLast } from "./decoder.ts";
import { linear } from "./linear.ts";
import { inModule, moduleAt, plainWeight, requiredParameter } from "./module.ts";
import type { ParameterList } from "./parameter-list.ts";

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

/** Path of the classifier of texts. */
const score = "score";

/**
 * `forward` and `hidden` of a decoder whose logits are the product of its last hidden states with a head, tied or not; of a
 * classifier the product of the last token's with `score` -> [B,labels].
 */
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
      if (headOf(c).kind === "sequence-classification") {
        const last = selectLast(x, inputs.lastIndex ?? lastOfText(inputs));
        return { logits: inModule(params, score, (p) => linear(last, p)) };
      }
      const last = inputs.lastIndex === undefined ? x : selectLast(x, inputs.lastIndex);
      const logits = withScope("lm_head", () => {
        const [y, cap] = [product(last, params, c), capOf(c)];
        return cap === undefined ? y : softCap(y, cap);
      });
      const outputs: ForwardOutputs = auxiliaryLoss === undefined ? { logits } : { logits, auxiliaryLoss };
      return inputs.cache === undefined ? outputs : { ...outputs, cache: newCache };
    },

    hidden(params, inputs, c, context) {
      if (headOf(c).kind !== "lm") return undefined;
      const headWeight = plainWeight(moduleAt(params, pathOf(c)));
      if (headWeight === undefined) return undefined;
      const { x, auxiliaryLoss } = trunk(params, inputs, c, context);
      return { hidden: x, headWeight, softCap: capOf(c), auxiliaryLoss };
    },
  };
}

/** int32[B]: where the text of each row ends, which padding (segment 0) may follow. */
function lastOfText({ tokens, segments }: Pick<ForwardInputs, "tokens" | "segments">): Tensor {
  const [B, T] = tokens.shape as [number, number];
  if (segments === undefined) return constant(new Int32Array(B).fill(T - 1), { shape: [B] });
  const lengths = sum(cast(notEqual(segments, 0), "float32"), { axes: [1] });
  return cast(maximum(sub(lengths, 1), 0), "int32");
}

/** The parameters of a decoder's head: none where it is the table of embeddings. */
export function causalHeadParameters(list: ParameterList, c: ModelConfig, head = "lm_head"): void {
  const { kind, labels } = headOf(c);
  if (kind === "sequence-classification") list.linear(score, c.hiddenSize, labels.length, { isHead: true });
  else if (!c.tieWordEmbeddings) list.linear(head, c.hiddenSize, c.vocabSize, { isHead: true });
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
