import { z } from "zod";
import {
  commonInertKeys,
  defineModel,
  formatTokenIds,
  layers,
  type ModelConfig,
  parseModelConfig,
  tokenIds,
} from "../../src/models/index.ts";

const schema = z.object({
  model_type: z.literal("bigram"),
  vocab_size: z.int().positive(),
  max_position_embeddings: z.int().positive(),
  hidden_size: z.int().positive(),
  eos_token_id: tokenIds,
});

function parseConfig(json: unknown): ModelConfig {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    hiddenSize: c.hidden_size,
    numLayers: 0,
    numHeads: 1,
    numKvHeads: 1,
    headDim: c.hidden_size,
    tieWordEmbeddings: false,
    eosTokenIds: c.eos_token_id,
    inert,
  });
}

/** Bigrams: what comes next depends on the last token only. */
export const bigram = defineModel<ModelConfig>({
  modelType: "bigram",
  architecture: "BigramForCausalLM",
  parseConfig,
  formatConfig: (c) => ({
    ...c.inert,
    model_type: "bigram",
    vocab_size: c.vocabSize,
    max_position_embeddings: c.contextLength,
    hidden_size: c.hiddenSize,
    eos_token_id: formatTokenIds(c.eosTokenIds),
  }),
  createConfig: (dials) =>
    parseConfig({
      model_type: "bigram",
      vocab_size: dials.vocabSize,
      max_position_embeddings: dials.contextLength,
      hidden_size: dials.hiddenSize,
      eos_token_id: dials.eosTokenId,
    }),
  parameters: ({ vocabSize: V, hiddenSize: D }) => ({
    "embed.weight": { shape: [V, D], init: { kind: "normal", std: 1 }, decay: true, module: "embedding" },
    "head.weight": { shape: [V, D], init: { kind: "normal", std: 0.02 }, decay: true, module: "linear" },
  }),
  checkpoint: { tied: () => ({}), inert: /^$/ },
  cacheShape: () => ({}),

  forward(params, inputs, config) {
    layers.checkInputs(inputs, config, "max_position_embeddings");
    // tokens[B,T] -> x[B,T,D]
    const x = layers.inModule(params, "embed", (p) => layers.embedding(inputs.tokens, p));
    const last = inputs.lastIndex === undefined ? x : layers.selectLast(x, inputs.lastIndex);
    const logits = layers.inModule(params, "head", (p) => layers.linear(last, p));
    return inputs.cache === undefined ? { logits } : { logits, cache: inputs.cache };
  },
});
