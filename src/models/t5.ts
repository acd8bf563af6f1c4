/**
 * T5 (Raffel et al. 2020) and its version 1.1: an encoder that reads a text and a decoder that writes another, relative
 * positions, RMS norm before each sublayer, no biases. Reference: `T5ForConditionalGeneration` of transformers. Knows nothing
 * of corruption, training, adapters, files or devices.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { add, mul, reshape, type Tensor, type Tree } from "../engine/index.ts";
import { commonInertKeys, endTokens, expectAllKvHeads, formatEndTokens, parseModelConfig, tokenIds } from "./config.ts";
import {
  type Cache,
  defineModel,
  type ForwardContext,
  type ForwardInputs,
  type ModelConfig,
  type ModelDials,
  type ParameterSpec,
} from "./family.ts";
import {
  type ActivationName,
  activationNames,
  activations,
  bidirectionalAttention,
  causalAttention,
  causalHead,
  checkInputs,
  checkpointed,
  crossAttention,
  DropoutStreams,
  embedding,
  expectSource,
  float32,
  inModule,
  kvCacheShape,
  linear,
  type Module,
  moduleAt,
  ParameterList,
  relativeBias,
  requiredParameter,
  rmsNorm,
  type TrunkOutputs,
} from "./layers/index.ts";

export interface T5Config extends ModelConfig {
  readonly modelType: "t5";
  readonly numDecoderLayers: number;
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  /** The activation is a gate on a second product (version 1.1). */
  readonly gated: boolean;
  readonly relativeBuckets: number;
  readonly relativeMaxDistance: number;
  readonly dropout: number;
  readonly layerNormEps: number;
  readonly initializerFactor: number;
  readonly decoderStartTokenId: number;
}

const schema = z.object({
  model_type: z.literal("t5"),
  vocab_size: z.int().positive().default(32128),
  n_positions: z.int().positive().default(512),
  d_model: z.int().positive().default(512),
  d_kv: z.int().positive().default(64),
  d_ff: z.int().positive().default(2048),
  num_layers: z.int().positive().default(6),
  num_decoder_layers: z.int().positive().nullish(),
  num_heads: z.int().positive().default(8),
  relative_attention_num_buckets: z.int().min(4).default(32),
  relative_attention_max_distance: z.int().positive().default(128),
  dropout_rate: z.number().min(0).lt(1).default(0.1),
  layer_norm_epsilon: z.number().positive().default(1e-6),
  initializer_factor: z.number().positive().default(1),
  feed_forward_proj: z.string().default("relu"),
  pad_token_id: z.int().nonnegative().nullish().default(0),
  decoder_start_token_id: z.int().nonnegative().nullish(),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds.default([1]),
  tie_word_embeddings: z.boolean().default(true),
});
/** What the reference derives from `feed_forward_proj` and `tie_word_embeddings`, and settings of other heads. */
const inertKeys = [
  ...commonInertKeys,
  "classifier_dropout",
  "dense_act_fn",
  "is_gated_act",
  "output_past",
  "scale_decoder_outputs",
];

function parseConfig(json: unknown): T5Config {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  if (c.relative_attention_max_distance * 2 <= c.relative_attention_num_buckets) {
    throw new PlinthError(
      `config.json: relative_attention_max_distance ${c.relative_attention_max_distance} is not more than half of relative_attention_num_buckets ${c.relative_attention_num_buckets}`,
      "change one of them",
    );
  }
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.n_positions,
    hiddenSize: c.d_model,
    numLayers: c.num_layers,
    numDecoderLayers: c.num_decoder_layers ?? c.num_layers,
    numHeads: c.num_heads,
    numKvHeads: c.num_heads,
    headDim: c.d_kv,
    intermediateSize: c.d_ff,
    ...parseFeedForward(c.feed_forward_proj),
    relativeBuckets: c.relative_attention_num_buckets,
    relativeMaxDistance: c.relative_attention_max_distance,
    dropout: c.dropout_rate,
    layerNormEps: c.layer_norm_epsilon,
    initializerFactor: c.initializer_factor,
    decoderStartTokenId: c.decoder_start_token_id ?? c.pad_token_id ?? 0,
    tieWordEmbeddings: c.tie_word_embeddings,
    ...endTokens(c),
    // Written back as it came; it says where the decoder starts only when nothing else does.
    inert: { ...inert, pad_token_id: c.pad_token_id ?? null },
  });
}

/** "relu", "gated-gelu": the name of an activation, and whether it is a gate. */
function parseFeedForward(name: string): Pick<T5Config, "activation" | "gated"> {
  const gated = name.startsWith("gated-");
  const bare = name.replace(/^gated-/, "");
  // What the reference has always computed under this name.
  const activation = name === "gated-gelu" ? "gelu_new" : bare;
  const known: readonly string[] = activationNames;
  if (known.includes(activation)) return { activation: activation as ActivationName, gated };
  throw new PlinthError(
    `config.json: feed_forward_proj ${JSON.stringify(name)} is not implemented`,
    `use one of ${activationNames.join(", ")}, or gated- and one of them`,
  );
}

function formatConfig(c: T5Config): Record<string, unknown> {
  const bare = c.gated && c.activation === "gelu_new" ? "gelu" : c.activation;
  return {
    ...c.inert,
    architectures: ["T5ForConditionalGeneration"],
    model_type: "t5",
    is_encoder_decoder: true,
    vocab_size: c.vocabSize,
    n_positions: c.contextLength,
    d_model: c.hiddenSize,
    d_kv: c.headDim,
    d_ff: c.intermediateSize,
    num_layers: c.numLayers,
    num_decoder_layers: c.numDecoderLayers,
    num_heads: c.numHeads,
    relative_attention_num_buckets: c.relativeBuckets,
    relative_attention_max_distance: c.relativeMaxDistance,
    dropout_rate: c.dropout,
    layer_norm_epsilon: c.layerNormEps,
    // The reference refuses an integer here, and JSON cannot say 1.0.
    ...(c.initializerFactor === 1 ? {} : { initializer_factor: c.initializerFactor }),
    feed_forward_proj: c.gated ? `gated-${bare}` : bare,
    decoder_start_token_id: c.decoderStartTokenId,
    tie_word_embeddings: c.tieWordEmbeddings,
    ...formatEndTokens(c),
  };
}

function createConfig(dials: ModelDials): T5Config {
  expectAllKvHeads("t5", dials);
  return parseConfig({
    model_type: "t5",
    vocab_size: dials.vocabSize,
    n_positions: dials.contextLength,
    d_model: dials.hiddenSize,
    d_kv: Math.max(1, Math.round(dials.hiddenSize / dials.numHeads)),
    d_ff: dials.intermediateSize ?? Math.ceil((8 * dials.hiddenSize) / 3 / 32) * 32,
    num_layers: dials.numLayers,
    num_heads: dials.numHeads,
    dropout_rate: dials.dropout ?? 0,
    feed_forward_proj: "gated-gelu",
    // As in version 1.1. A tied head starts far from chance: a token's own vector is all that the decoder has at first.
    tie_word_embeddings: dials.tieWordEmbeddings ?? false,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

const encoderBlock = (i: number): string => `encoder.block.${i}`;
const decoderBlock = (i: number): string => `decoder.block.${i}`;

function parameters(c: T5Config): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F } = c;
  const inner = c.numHeads * c.headDim;
  const normal = (variance: number) => ({ kind: "normal", std: c.initializerFactor * variance ** 0.5 }) as const;
  const list = new ParameterList({ std: c.initializerFactor });
  const attention = (name: string): void => {
    list.linear(`${name}.q`, D, inner, { init: normal(1 / (D * c.headDim)) });
    list.linear(`${name}.k`, D, inner, { init: normal(1 / D) });
    list.linear(`${name}.v`, D, inner, { init: normal(1 / D) });
    list.linear(`${name}.o`, inner, D, { init: normal(1 / inner) });
  };
  const feedForward = (layer: string): void => {
    const wide = c.gated ? ["wi_0", "wi_1"] : ["wi"];
    for (const name of wide) list.linear(`${layer}.DenseReluDense.${name}`, D, F, { init: normal(1 / D) });
    list.linear(`${layer}.DenseReluDense.wo`, F, D, { init: normal(1 / F) });
    list.rmsNorm(`${layer}.layer_norm`, D);
  };
  list.embedding("shared", c.vocabSize, D);
  for (const [stack, layers] of [
    ["encoder", c.numLayers],
    ["decoder", c.numDecoderLayers],
  ] as const) {
    for (let i = 0; i < layers; i++) {
      const block = `${stack}.block.${i}`;
      attention(`${block}.layer.0.SelfAttention`);
      if (i === 0) {
        const table = `${block}.layer.0.SelfAttention.relative_attention_bias`;
        list.embedding(table, c.relativeBuckets, c.numHeads, { init: normal(1 / D) });
      }
      list.rmsNorm(`${block}.layer.0.layer_norm`, D);
      if (stack === "decoder") {
        attention(`${block}.layer.1.EncDecAttention`);
        list.rmsNorm(`${block}.layer.1.layer_norm`, D);
      }
      feedForward(`${block}.layer.${stack === "decoder" ? 2 : 1}`);
    }
    list.rmsNorm(`${stack}.final_layer_norm`, D);
  }
  // Small, so that the first guess is near chance.
  if (!c.tieWordEmbeddings) list.linear("lm_head", D, c.vocabSize, { init: normal(1 / (16 * D)), isHead: true });
  return list.specs;
}

/** T5 (Raffel et al. 2020), 1.0 and 1.1, as `T5ForConditionalGeneration`. The head that is tied is scaled by 1/sqrt(D). */
export const t5 = defineModel<T5Config>({
  modelType: "t5",
  kind: "encoder-decoder",
  architecture: "T5ForConditionalGeneration",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  checkpoint: {
    tied: (c) => ({
      "encoder.embed_tokens.weight": "shared.weight",
      "decoder.embed_tokens.weight": "shared.weight",
      ...(c.tieWordEmbeddings ? { "lm_head.weight": "shared.weight" } : {}),
    }),
    inert: /^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$/,
  },

  cacheShape: (c, batch, length) =>
    kvCacheShape({ ...c, numLayers: c.numDecoderLayers }, [batch, length], (i) => `${decoderBlock(i)}.layer.0`),

  readSource: (params, inputs, c, context) => readSource(params, inputs, c, new DropoutStreams(context), context),
  ...causalHead({ embeddings: "shared", trunk: write }),
});

interface StackContext {
  readonly c: T5Config;
  readonly inputs: ForwardInputs;
  readonly dropout: DropoutStreams;
}

/** source[B,S] -> keys and values of every decoder layer's cross-attention, each [B,S,H,K]. */
function readSource(
  params: Tree<Tensor>,
  inputs: ForwardInputs,
  c: T5Config,
  dropout: DropoutStreams,
  context: ForwardContext | undefined,
): Cache {
  // To the encoder the source is the text, and nothing else is.
  const own = { tokens: expectSource(inputs, c), segments: inputs.sourceSegments };
  checkInputs(own, c, "n_positions");
  const S = own.tokens.shape[1] as number;
  let x = inModule(params, "shared", (p) => embedding(own.tokens, p));
  x = dropout.apply(x, c.dropout);
  const bias = positionBias(params, encoderBlock(0), c, { queries: S, keys: S });
  for (let i = 0; i < c.numLayers; i++) {
    const run = (x: Tensor, p: Module): Tensor => {
      const sees = (q: Tensor, k: Tensor, v: Tensor): Tensor =>
        bidirectionalAttention(q, k, v, { scale: 1, inputs: own, bias, dropout: dropout.site(c.dropout) });
      const h = inModule(p, "layer.0", (p) => selfAttention(x, p, { c, inputs, dropout }, sees));
      return inModule(p, "layer.1", (p) => feedForward(h, p, { c, inputs, dropout }));
    };
    x = inModule(params, encoderBlock(i), (p) => checkpointed(context, x, (x) => run(x, p)));
  }
  x = inModule(params, "encoder.final_layer_norm", (p) => rmsNorm(x, p, { eps: c.layerNormEps }));
  x = dropout.apply(x, c.dropout);
  const memory: Record<string, Tensor> = {};
  for (let i = 0; i < c.numDecoderLayers; i++) {
    const name = `${decoderBlock(i)}.layer.1`;
    inModule(params, `${name}.EncDecAttention`, (p) => {
      for (const part of ["k", "v"]) memory[`${name}.${part}`] = heads(x, moduleAt(p, part), c);
    });
  }
  return memory;
}

/** tokens[B,T] and what `readSource` made of the source -> x[B,T,D]: all of the decoder but the head. */
function write(
  params: Tree<Tensor>,
  inputs: ForwardInputs,
  c: T5Config,
  context: ForwardContext | undefined,
): TrunkOutputs {
  checkInputs(inputs, c, "n_positions");
  const dropout = new DropoutStreams(context);
  const newCache: Record<string, Tensor> = {};
  const memory = inputs.memory ?? readSource(params, inputs, c, dropout, context);
  let x = inModule(params, "shared", (p) => embedding(inputs.tokens, p));
  x = dropout.apply(x, c.dropout);
  const queries = inputs.tokens.shape[1] as number;
  const keys =
    inputs.cache === undefined ? queries : (inputs.cache[`${decoderBlock(0)}.layer.0.k`]?.shape[1] as number);
  const start = inputs.cache === undefined ? undefined : inputs.start;
  const bias = positionBias(params, decoderBlock(0), c, { queries, keys, start });
  for (let i = 0; i < c.numDecoderLayers; i++) {
    const run = (x: Tensor, p: Module): Tensor => {
      const stack = { c, inputs, dropout };
      const cacheName = `${decoderBlock(i)}.layer.0`;
      const sees = (q: Tensor, k: Tensor, v: Tensor): Tensor =>
        causalAttention(q, k, v, { scale: 1, inputs, cacheName, newCache, bias, dropout: dropout.site(c.dropout) });
      const h = inModule(p, "layer.0", (p) => selfAttention(x, p, stack, sees));
      const informed = inModule(p, "layer.1", (p) =>
        sourceAttention(h, p, stack, [memory, `${decoderBlock(i)}.layer.1`]),
      );
      return inModule(p, "layer.2", (p) => feedForward(informed, p, stack));
    };
    x = inModule(params, decoderBlock(i), (p) => checkpointed(context, x, (x) => run(x, p)));
  }
  x = inModule(params, "decoder.final_layer_norm", (p) => rmsNorm(x, p, { eps: c.layerNormEps }));
  x = dropout.apply(x, c.dropout);
  return { x: c.tieWordEmbeddings ? mul(x, c.hiddenSize ** -0.5) : x, newCache };
}

/** [1 or B,H,T,S]: what is added to the scores of all layers of a stack; its first block has the table. */
function positionBias(
  params: Tree<Tensor>,
  block: string,
  c: T5Config,
  span: { queries: number; keys: number; start?: Tensor | undefined },
): Tensor {
  const buckets = {
    count: c.relativeBuckets,
    maxDistance: c.relativeMaxDistance,
    bidirectional: block.startsWith("encoder"),
  };
  return inModule(params, `${block}.layer.0.SelfAttention.relative_attention_bias`, (p) =>
    relativeBias(float32(requiredParameter(p, "weight")), buckets, span),
  );
}

/** x[B,T,D] -> x[B,T,D]; `sees` is the attention of q, k, v[B,T,H,K]. */
function selfAttention(
  x: Tensor,
  p: Module,
  { c, dropout }: StackContext,
  sees: (q: Tensor, k: Tensor, v: Tensor) => Tensor,
): Tensor {
  const normed = inModule(p, "layer_norm", (p) => rmsNorm(x, p, { eps: c.layerNormEps }));
  const y = inModule(p, "SelfAttention", (p) => {
    const [q, k, v] = ["q", "k", "v"].map((name) => heads(normed, moduleAt(p, name), c)) as [Tensor, Tensor, Tensor];
    return joined(sees(q, k, v), moduleAt(p, "o"));
  });
  return add(x, dropout.apply(y, c.dropout));
}

/** x[B,T,D] -> x[B,T,D]: looks at the source. */
function sourceAttention(
  x: Tensor,
  p: Module,
  { c, inputs, dropout }: StackContext,
  [memory, name]: readonly [Cache, string],
): Tensor {
  const normed = inModule(p, "layer_norm", (p) => rmsNorm(x, p, { eps: c.layerNormEps }));
  const y = inModule(p, "EncDecAttention", (p) => {
    const q = heads(normed, moduleAt(p, "q"), c);
    return joined(
      crossAttention(q, { memory, name, scale: 1, inputs, dropout: dropout.site(c.dropout) }),
      moduleAt(p, "o"),
    );
  });
  return add(x, dropout.apply(y, c.dropout));
}

/** x[B,T,D] -> x[B,T,D] */
function feedForward(x: Tensor, p: Module, { c, dropout }: StackContext): Tensor {
  const normed = inModule(p, "layer_norm", (p) => rmsNorm(x, p, { eps: c.layerNormEps }));
  const y = inModule(p, "DenseReluDense", (p) => {
    const wide = activations[c.activation](linear(normed, moduleAt(p, c.gated ? "wi_0" : "wi")));
    const gated = c.gated ? mul(wide, linear(normed, moduleAt(p, "wi_1"))) : wide;
    return linear(dropout.apply(gated, c.dropout), moduleAt(p, "wo"));
  });
  return add(x, dropout.apply(y, c.dropout));
}

/** x[B,T,D] -> [B,T,H,K] */
function heads(x: Tensor, p: Module, c: T5Config): Tensor {
  const [B, T] = x.shape as [number, number];
  return reshape(linear(x, p), [B, T, c.numHeads, c.headDim]);
}

/** y[B,T,H,K] -> [B,T,D] */
function joined(y: Tensor, p: Module): Tensor {
  const [B, T, H, K] = y.shape as [number, number, number, number];
  return linear(reshape(y, [B, T, H * K]), p);
}
