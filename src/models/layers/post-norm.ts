import { add, reshape, type Tensor } from "../../engine/index.ts";
import type { ModelConfig } from "../family.ts";
import { type ActivationName, activations } from "./activation.ts";
import { bidirectionalAttention } from "./attention.ts";
import { checkpointed } from "./decoder.ts";
import type { EncoderCall } from "./encoder.ts";
import { linear } from "./linear.ts";
import { inModule, type Module, moduleAt } from "./module.ts";
import { layerNorm } from "./norm.ts";
import type { ParameterList } from "./parameter-list.ts";

/** Paths of the layers inside a block. */
export interface PostNormNames {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly attentionOutput: string;
  readonly attentionNorm: string;
  readonly up: string;
  readonly down: string;
  readonly outputNorm: string;
}

/** What a config must have for {@link postNormBlocks}. */
export interface PostNormConfig extends ModelConfig {
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly layerNormEps: number;
  readonly attnDropout: number;
}

/** Rates of dropout at the end of the two sublayers. */
export interface PostNormRates {
  readonly attention: number;
  readonly output: number;
}

/** The blocks of BERT (Devlin et al. 2019): all tokens see each other; the norm stands after each sublayer's addition. */
export function postNormBlocks<C extends PostNormConfig>(
  layerName: (layer: number) => string,
  names: PostNormNames,
  rates: (c: C) => PostNormRates,
): { parameters(list: ParameterList, c: C): void; forward(x: Tensor, call: EncoderCall<C>): Tensor } {
  return {
    parameters(list, c) {
      const { hiddenSize: D, intermediateSize: F } = c;
      for (let i = 0; i < c.numLayers; i++) {
        const dense = (name: string, from: number, to: number): void =>
          list.linear(`${layerName(i)}.${name}`, from, to, { bias: true });
        for (const name of [names.query, names.key, names.value, names.attentionOutput]) dense(name, D, D);
        list.layerNorm(`${layerName(i)}.${names.attentionNorm}`, D);
        dense(names.up, D, F);
        dense(names.down, F, D);
        list.layerNorm(`${layerName(i)}.${names.outputNorm}`, D);
      }
    },

    forward(x, call) {
      const { params, c, context } = call;
      let y = x;
      for (let i = 0; i < c.numLayers; i++) {
        y = inModule(params, layerName(i), (p) => checkpointed(context, y, (x) => block(x, p, names, rates(c), call)));
      }
      return y;
    },
  };
}

/** x[B,T,D] -> x[B,T,D] */
function block<C extends PostNormConfig>(
  x: Tensor,
  p: Module,
  names: PostNormNames,
  rates: PostNormRates,
  { c, inputs, dropout }: EncoderCall<C>,
): Tensor {
  const [B, T, D] = x.shape as [number, number, number];
  const norm = (y: Tensor, residual: Tensor, path: string): Tensor =>
    inModule(p, path, (p) => layerNorm(add(y, residual), p, { eps: c.layerNormEps }));
  const dense = (x: Tensor, path: string): Tensor => inModule(p, path, (p) => linear(x, p));
  const heads = (name: string): Tensor => reshape(linear(x, moduleAt(p, name)), [B, T, c.numHeads, c.headDim]);
  const attended = bidirectionalAttention(heads(names.query), heads(names.key), heads(names.value), {
    scale: c.headDim ** -0.5,
    inputs,
    dropout: dropout.site(c.attnDropout),
  });
  const y = dense(reshape(attended, [B, T, D]), names.attentionOutput);
  const h = norm(dropout.apply(y, rates.attention), x, names.attentionNorm);
  const wide = activations[c.activation](dense(h, names.up));
  return norm(dropout.apply(dense(wide, names.down), rates.output), h, names.outputNorm);
}
