/**
 * GPT-Neo (Black et al. 2021): GPT-2 with every other layer local, seeing a window only, separate projections without
 * biases, and scores that are not divided by sqrt(K). Reference: `GPTNeoForCausalLM` of transformers.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { reshape, type Tensor } from "../engine/index.ts";
import {
  commonInertKeys,
  endTokens,
  expectAllKvHeads,
  expectMultiple,
  formatEndTokens,
  parseModelConfig,
  tokenIds,
} from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  type ActivationName,
  activationNames,
  activations,
  causalAttention,
  type GptBlock,
  type GptDecoderConfig,
  gptDecoder,
  gptDecoderParameters,
  linear,
  type Module,
  moduleAt,
} from "./layers/index.ts";

export interface GptNeoConfig extends GptDecoderConfig {
  readonly modelType: "gpt_neo";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly attnDropout: number;
  /** Kinds of layers, and how often they are repeated. */
  readonly attentionTypes: readonly (readonly [kinds: readonly AttentionKind[], times: number])[];
  /** The kind of every layer, as `attentionTypes` has it. */
  readonly attentionLayers: readonly AttentionKind[];
  /** How many of the latest tokens a token sees in a local layer, itself included. */
  readonly windowSize: number;
}

const kinds = ["global", "local"] as const;
type AttentionKind = (typeof kinds)[number];

const rate = z.number().min(0).lt(1).default(0);
const schema = z.object({
  model_type: z.literal("gpt_neo"),
  vocab_size: z.int().positive().default(50257),
  max_position_embeddings: z.int().positive().default(2048),
  hidden_size: z.int().positive().default(2048),
  num_layers: z.int().positive().default(24),
  num_heads: z.int().positive().default(16),
  intermediate_size: z.int().positive().nullish(),
  attention_types: z
    .array(z.tuple([z.array(z.enum(kinds)), z.int().positive()]))
    .nullish()
    .transform((types) => types ?? [[[...kinds], 12] as [AttentionKind[], number]]),
  attention_layers: z.array(z.enum(kinds)).optional(),
  window_size: z.int().positive().default(256),
  activation_function: z.enum(activationNames).default("gelu_new"),
  resid_dropout: rate,
  embed_dropout: rate,
  attention_dropout: rate,
  layer_norm_epsilon: z.number().positive().default(1e-5),
  initializer_range: z.number().positive().default(0.02),
  bos_token_id: z.int().nonnegative().nullish().default(50256),
  eos_token_id: tokenIds.default([50256]),
  tie_word_embeddings: z.boolean().default(true),
});
const inertKeys = [...commonInertKeys, "summary_*", "classifier_dropout"];

function parseConfig(json: unknown): GptNeoConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  expectMultiple(c, "hidden_size", "num_heads");
  const attentionLayers = c.attention_types.flatMap(([kinds, times]) => new Array(times).fill(kinds).flat());
  if (attentionLayers.length !== c.num_layers) {
    throw new PlinthError(
      `config.json: attention_types has ${attentionLayers.length} layers, num_layers is ${c.num_layers}`,
      "correct one of them",
    );
  }
  if (c.attention_layers !== undefined && `${c.attention_layers}` !== `${attentionLayers}`) {
    throw new PlinthError("config.json: attention_layers is not what attention_types says", "remove attention_layers");
  }
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    hiddenSize: c.hidden_size,
    numLayers: c.num_layers,
    numHeads: c.num_heads,
    numKvHeads: c.num_heads,
    headDim: c.hidden_size / c.num_heads,
    intermediateSize: c.intermediate_size ?? 4 * c.hidden_size,
    activation: c.activation_function,
    layerNormEps: c.layer_norm_epsilon,
    initializerRange: c.initializer_range,
    residDropout: c.resid_dropout,
    embdDropout: c.embed_dropout,
    attnDropout: c.attention_dropout,
    attentionTypes: c.attention_types,
    attentionLayers,
    windowSize: c.window_size,
    tieWordEmbeddings: c.tie_word_embeddings,
    ...endTokens(c),
    inert,
  });
}

function formatConfig(c: GptNeoConfig): Record<string, unknown> {
  return {
    ...c.inert,
    model_type: "gpt_neo",
    vocab_size: c.vocabSize,
    max_position_embeddings: c.contextLength,
    hidden_size: c.hiddenSize,
    num_layers: c.numLayers,
    num_heads: c.numHeads,
    intermediate_size: c.intermediateSize === 4 * c.hiddenSize ? null : c.intermediateSize,
    attention_types: c.attentionTypes,
    attention_layers: c.attentionLayers,
    window_size: c.windowSize,
    activation_function: c.activation,
    resid_dropout: c.residDropout,
    embed_dropout: c.embdDropout,
    attention_dropout: c.attnDropout,
    layer_norm_epsilon: c.layerNormEps,
    initializer_range: c.initializerRange,
    tie_word_embeddings: c.tieWordEmbeddings,
    ...formatEndTokens(c),
  };
}

/** Global and local layers by turns; as the published ones have it, the window is an eighth of the context. */
function createConfig(dials: ModelDials): GptNeoConfig {
  expectAllKvHeads("gpt_neo", dials);
  const { dropout, numLayers } = dials;
  const [pairs, single] = [Math.floor(numLayers / 2), numLayers % 2];
  return parseConfig({
    model_type: "gpt_neo",
    vocab_size: dials.vocabSize,
    max_position_embeddings: dials.contextLength,
    hidden_size: dials.hiddenSize,
    num_layers: numLayers,
    num_heads: dials.numHeads,
    intermediate_size: dials.intermediateSize,
    attention_types: [...(pairs > 0 ? [[kinds, pairs]] : []), ...(single > 0 ? [[["global"], 1]] : [])],
    window_size: Math.min(256, Math.ceil(dials.contextLength / 8)),
    resid_dropout: dropout,
    embed_dropout: dropout,
    attention_dropout: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings,
    bos_token_id: dials.bosTokenId ?? null,
    eos_token_id: dials.eosTokenId ?? null,
  });
}

function parameters(c: GptNeoConfig): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F } = c;
  return gptDecoderParameters(c, (list, layer) => {
    list.layerNorm(`${layer}.ln_1`, D);
    for (const name of ["q_proj", "k_proj", "v_proj"]) list.linear(`${layer}.attn.attention.${name}`, D, D);
    list.linear(`${layer}.attn.attention.out_proj`, D, D, { bias: true });
    list.layerNorm(`${layer}.ln_2`, D);
    list.linear(`${layer}.mlp.c_fc`, D, F, { bias: true });
    list.linear(`${layer}.mlp.c_proj`, F, D, { bias: true });
  });
}

export const gptNeo = defineModel<GptNeoConfig>({
  modelType: "gpt_neo",
  ...decoderHeads(
    { lm: "GPTNeoForCausalLM", "sequence-classification": "GPTNeoForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  parameters,
  ...gptDecoder({ limitKey: "max_position_embeddings", attentionPath: "attn.attention", attention, mlp }),
});

/** x[B,T,D] -> [B,T,D] */
function attention(
  x: Tensor,
  p: Module,
  { c, layer, inputs, dropout, cacheName, newCache }: GptBlock<GptNeoConfig>,
): Tensor {
  const [B, T, D] = x.shape as [number, number, number];
  const heads = (name: string): Tensor => reshape(linear(x, moduleAt(p, name)), [B, T, c.numHeads, c.headDim]);
  const y = causalAttention(heads("q_proj"), heads("k_proj"), heads("v_proj"), {
    scale: 1,
    inputs,
    cacheName,
    newCache,
    dropout: dropout.site(c.attnDropout),
    window: c.attentionLayers[layer] === "local" ? c.windowSize : undefined,
  });
  return linear(reshape(y, [B, T, D]), moduleAt(p, "out_proj"));
}

/** x[B,T,D] -> [B,T,D] */
function mlp(x: Tensor, p: Module, c: GptNeoConfig): Tensor {
  return linear(activations[c.activation](linear(x, moduleAt(p, "c_fc"))), moduleAt(p, "c_proj"));
}
