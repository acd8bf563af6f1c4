/**
 * PaLM (Chowdhery et al. 2022, section 2): attention and feed-forward side by side in every block, one key-value head for all queries,
 * SwiGLU, rotary positions, no biases anywhere, one table for input and output. There is no published checkpoint: the
 * names are Llama's, the reference is a module written from the paper (test/golden/palm_reference.py). Rotated pairs are
 * (i, i + K/2).
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { add, mul, type Tensor } from "../engine/index.ts";
import { commonInertKeys, endTokens, formatEndTokens, parseModelConfig, tokenIds } from "./config.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  formatRope,
  gatedMlp,
  gatedMlpParameters,
  inModule,
  layerNorm,
  type Module,
  parseRope,
  type RotaryBlock,
  type RotaryDecoderConfig,
  rotaryAttention,
  rotaryAttentionParameters,
  rotaryDecoder,
  rotaryDecoderParameters,
} from "./layers/index.ts";

export interface PalmConfig extends RotaryDecoderConfig {
  readonly modelType: "palm";
  readonly intermediateSize: number;
  readonly layerNormEps: number;
}

const schema = z.object({
  model_type: z.literal("palm"),
  vocab_size: z.int().positive().default(256000),
  hidden_size: z.int().positive().default(4096),
  intermediate_size: z.int().positive().nullish(),
  num_hidden_layers: z.int().positive().default(32),
  num_attention_heads: z.int().positive().default(16),
  head_dim: z.int().positive().multipleOf(2).default(256),
  max_position_embeddings: z.int().positive().default(2048),
  layer_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().optional(),
  rope_scaling: z.unknown().optional(),
  attention_dropout: z.number().min(0).lt(1).default(0),
  // Of the embeddings; a product's weights start with 1/sqrt(inputs).
  initializer_range: z.number().positive().default(1),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
});

function parseConfig(json: unknown): PalmConfig {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  const { theta, scaling } = parseRope(c);
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    hiddenSize: c.hidden_size,
    numLayers: c.num_hidden_layers,
    numHeads: c.num_attention_heads,
    numKvHeads: 1,
    headDim: c.head_dim,
    intermediateSize: c.intermediate_size ?? 4 * c.hidden_size,
    layerNormEps: c.layer_norm_eps,
    ropeTheta: theta,
    ropeScaling: scaling,
    attentionDropout: c.attention_dropout,
    initializerRange: c.initializer_range,
    tieWordEmbeddings: true,
    ...endTokens(c),
    inert,
  });
}

function formatConfig(c: PalmConfig): Record<string, unknown> {
  return {
    ...c.inert,
    architectures: ["PalmForCausalLM"],
    model_type: "palm",
    vocab_size: c.vocabSize,
    hidden_size: c.hiddenSize,
    intermediate_size: c.intermediateSize,
    num_hidden_layers: c.numLayers,
    num_attention_heads: c.numHeads,
    head_dim: c.headDim,
    max_position_embeddings: c.contextLength,
    layer_norm_eps: c.layerNormEps,
    ...formatRope({ theta: c.ropeTheta, scaling: c.ropeScaling }),
    attention_dropout: c.attentionDropout,
    initializer_range: c.initializerRange,
    ...formatEndTokens(c),
  };
}

function createConfig(dials: ModelDials): PalmConfig {
  const { numKvHeads = 1, tieWordEmbeddings = true } = dials;
  if (numKvHeads !== 1 || !tieWordEmbeddings) {
    throw new PlinthError(
      `palm: ${numKvHeads} key-value heads, embeddings ${tieWordEmbeddings ? "" : "not "}tied; palm has one key-value head and one table for input and output`,
      "leave the two out, or choose the llama architecture",
    );
  }
  return parseConfig({
    model_type: "palm",
    vocab_size: dials.vocabSize,
    max_position_embeddings: dials.contextLength,
    hidden_size: dials.hiddenSize,
    intermediate_size: dials.intermediateSize,
    num_hidden_layers: dials.numLayers,
    num_attention_heads: dials.numHeads,
    head_dim: dials.hiddenSize / dials.numHeads,
    attention_dropout: dials.dropout,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

function parameters(c: PalmConfig): Record<string, ParameterSpec> {
  const specs = rotaryDecoderParameters(c, (list, layer) => {
    list.layerNorm(`${layer}.input_layernorm`, c.hiddenSize, { bias: false });
    rotaryAttentionParameters(list, `${layer}.self_attn`, c);
    gatedMlpParameters(list, `${layer}.mlp`, c);
  });
  // Section 5: embeddings start with variance 1, kernels with that of one over their inputs.
  const fanIn = (spec: ParameterSpec): ParameterSpec =>
    spec.module === "linear" ? { ...spec, init: { kind: "normal", std: (spec.shape[1] as number) ** -0.5 } } : spec;
  return Object.fromEntries(Object.entries(specs).map(([name, spec]) => [name, fanIn(spec)]));
}

export const palm = defineModel<PalmConfig>({
  modelType: "palm",
  architecture: "PalmForCausalLM",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  ...rotaryDecoder<PalmConfig>({
    block,
    // Section 5: logits are divided by sqrt(D), because the table that gives them has variance 1; so is what they are made of.
    norm: (x, p, c) => mul(layerNorm(x, p, { eps: c.layerNormEps }), c.hiddenSize ** -0.5),
  }),
});

/** x[B,T,D] -> x[B,T,D] = x + mlp(norm(x)) + attention(norm(x)) */
function block(x: Tensor, p: Module, { c, attention }: RotaryBlock<PalmConfig>): Tensor {
  const normed = inModule(p, "input_layernorm", (p) => layerNorm(x, p, { eps: c.layerNormEps }));
  const attended = inModule(p, "self_attn", (p) => rotaryAttention(normed, p, attention));
  const fed = inModule(p, "mlp", (p) => gatedMlp(normed, p, "silu"));
  return add(x, add(fed, attended));
}
