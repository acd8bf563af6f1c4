import { add, slice, type Tensor } from "../../engine/index.ts";
import type { ModelConfig } from "../family.ts";
import { checkInputs, positionsOf } from "./decoder.ts";
import { embedding } from "./embedding.ts";
import type { EncoderCall } from "./encoder.ts";
import { float32 } from "./float32.ts";
import { inModule, type Module, requiredParameter } from "./module.ts";
import { layerNorm } from "./norm.ts";
import type { ParameterList } from "./parameter-list.ts";

/** What a config must have for {@link learnedEmbeddings}. */
export interface LearnedEmbeddingsConfig extends ModelConfig {
  readonly layerNormEps: number;
  readonly hiddenDropout: number;
  /** Rows of the table of token types; 0 where there is none. */
  readonly typeVocabSize: number;
}

/**
 * tokens[B,T] -> x[B,T,D]: words, learned positions and, in models of text pairs, token types, added and normalised (Devlin et al.
 * 2019). `positionOffset`: rows of the position table before the first token's. A model of one type reads no types.
 */
export function learnedEmbeddings<C extends LearnedEmbeddingsConfig>(
  path: string,
  positionOffset: (c: C) => number = () => 0,
): { parameters(list: ParameterList, c: C): void; forward(call: EncoderCall<C>): Tensor } {
  return {
    parameters(list, c) {
      list.embedding(`${path}.word_embeddings`, c.vocabSize, c.hiddenSize);
      list.embedding(`${path}.position_embeddings`, c.contextLength + positionOffset(c), c.hiddenSize);
      if (c.typeVocabSize > 0) list.embedding(`${path}.token_type_embeddings`, c.typeVocabSize, c.hiddenSize);
      list.layerNorm(`${path}.LayerNorm`, c.hiddenSize);
    },

    forward({ params, inputs, c, dropout }) {
      checkInputs(inputs, c, "max_position_embeddings");
      const offset = positionOffset(c);
      const rows = offset === 0 ? positionsOf(inputs) : add(positionsOf(inputs), offset);
      const x = inModule(params, path, (p) => {
        const words = inModule(p, "word_embeddings", (p) => embedding(inputs.tokens, p));
        const typed = c.typeVocabSize === 0 ? words : add(words, types(p, inputs.tokenTypes, c));
        const positions = inModule(p, "position_embeddings", (p) => embedding(rows, p));
        return inModule(p, "LayerNorm", (p) => layerNorm(add(typed, positions), p, { eps: c.layerNormEps }));
      });
      return dropout.apply(x, c.hiddenDropout);
    },
  };
}

function types(p: Module, tokenTypes: Tensor | undefined, c: LearnedEmbeddingsConfig): Tensor {
  return inModule(p, "token_type_embeddings", (p) => {
    if (tokenTypes !== undefined && c.typeVocabSize > 1) return embedding(tokenTypes, p);
    // Every token is of the first type: one row for all.
    return float32(slice(requiredParameter(p, "weight"), { starts: [0, 0], limits: [1, c.hiddenSize] }));
  });
}
