import { add, type Tensor, type Tree } from "../../engine/index.ts";
import type { ForwardContext, ForwardInputs, ModelConfig, ModelFamily, ParameterSpec } from "../family.ts";
import { causalHead, causalHeadParameters, kvCacheShape, type TrunkOutputs } from "./causal-head.ts";
import { checkInputs, checkpointed, DropoutStreams, positionsOf } from "./decoder.ts";
import { embedding } from "./embedding.ts";
import { inModule, type Module } from "./module.ts";
import { layerNorm } from "./norm.ts";
import { ParameterList } from "./parameter-list.ts";

/** What the GPTs with learned positions have in common. */
export interface GptDecoderConfig extends ModelConfig {
  readonly layerNormEps: number;
  readonly residDropout: number;
  readonly embdDropout: number;
  readonly initializerRange: number;
}

/** One block's part in a call of the model. */
export interface GptBlock<C extends GptDecoderConfig> {
  readonly c: C;
  readonly layer: number;
  readonly inputs: ForwardInputs;
  readonly dropout: DropoutStreams;
  /** Name of the block's entries in the cache. */
  readonly cacheName: string;
  readonly newCache: Record<string, Tensor>;
}

export interface GptDecoder<C extends GptDecoderConfig> {
  /** Key of config.json that says how long a text may be. */
  readonly limitKey: string;
  /** Path of the attention within a block. */
  readonly attentionPath: string;
  /** x[B,T,D] -> [B,T,D], normalised x */
  attention(x: Tensor, p: Module, block: GptBlock<C>): Tensor;
  /** x[B,T,D] -> [B,T,D], normalised x */
  mlp(x: Tensor, p: Module, c: C): Tensor;
}

/** Path of a block. */
export function gptLayer(layer: number): string {
  return `transformer.h.${layer}`;
}

/**
 * What follows from the names of a decoder like GPT-2 (Radford et al. 2019): token and position vectors, blocks of
 * attention and a feed-forward layer with a layer norm before each, a last layer norm, under GPT-2's names.
 */
export function gptDecoder<C extends GptDecoderConfig>(
  parts: GptDecoder<C>,
): Pick<ModelFamily<C>, "checkpoint" | "cacheShape" | "forward" | "hidden"> {
  const cacheName = (layer: number): string => `${gptLayer(layer)}.${parts.attentionPath}`;

  /** tokens[B,T] -> x[B,T,D]: all of the model but the head. */
  const trunk = (
    params: Tree<Tensor>,
    inputs: ForwardInputs,
    c: C,
    context: ForwardContext | undefined,
  ): TrunkOutputs => {
    checkInputs(inputs, c, parts.limitKey);
    const dropout = new DropoutStreams(context);
    const newCache: Record<string, Tensor> = {};
    const tokenVectors = inModule(params, "transformer.wte", (p) => embedding(inputs.tokens, p));
    const positionVectors = inModule(params, "transformer.wpe", (p) => embedding(positionsOf(inputs), p));
    let x = dropout.apply(add(tokenVectors, positionVectors), c.embdDropout);
    for (let layer = 0; layer < c.numLayers; layer++) {
      const shared = { c, layer, inputs, dropout, cacheName: cacheName(layer), newCache };
      x = inModule(params, gptLayer(layer), (p) => checkpointed(context, x, (x) => block(x, p, shared)));
    }
    x = inModule(params, "transformer.ln_f", (p) => layerNorm(x, p, { eps: c.layerNormEps }));
    return { x, newCache };
  };

  /** x[B,T,D] -> x[B,T,D] */
  const block = (x: Tensor, p: Module, shared: GptBlock<C>): Tensor => {
    const { c, dropout } = shared;
    const normed = inModule(p, "ln_1", (p) => layerNorm(x, p, { eps: c.layerNormEps }));
    const attended = inModule(p, parts.attentionPath, (p) => parts.attention(normed, p, shared));
    const h = add(x, dropout.apply(attended, c.residDropout));
    const normedAgain = inModule(p, "ln_2", (p) => layerNorm(h, p, { eps: c.layerNormEps }));
    const fed = inModule(p, "mlp", (p) => parts.mlp(normedAgain, p, c));
    return add(h, dropout.apply(fed, c.residDropout));
  };

  return {
    checkpoint: {
      optionalPrefix: "transformer.",
      tied: (c) => (c.tieWordEmbeddings ? { "lm_head.weight": "transformer.wte.weight" } : {}),
      // Masks that older files hold.
      inert: new RegExp(`^(transformer\\.)?h\\.\\d+\\.${parts.attentionPath.replace(".", "\\.")}\\.(masked_)?bias$`),
    },
    cacheShape: (c, batch, length) => kvCacheShape(c, [batch, length], cacheName),
    ...causalHead({ embeddings: "transformer.wte", trunk }),
  };
}

/** The parameters of {@link gptDecoder}; `layer` adds those of one block to the list, under the name it is given. */
export function gptDecoderParameters(
  c: GptDecoderConfig,
  layer: (list: ParameterList, name: string) => void,
): Record<string, ParameterSpec> {
  const list = new ParameterList({ std: c.initializerRange });
  list.embedding("transformer.wte", c.vocabSize, c.hiddenSize);
  list.embedding("transformer.wpe", c.contextLength, c.hiddenSize);
  for (let i = 0; i < c.numLayers; i++) layer(list, gptLayer(i));
  list.layerNorm("transformer.ln_f", c.hiddenSize);
  causalHeadParameters(list, c);
  return list.specs;
}
