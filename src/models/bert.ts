/**
 * BERT (Devlin et al. 2019): a bidirectional encoder, learned positions, token types, layer norm after each sublayer, and the
 * heads of its pretraining. Reference: `BertForMaskedLM` and `BertForPreTraining` of transformers. Knows nothing of masking,
 * training, adapters, files or devices.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { add, matmul, reshape, slice, type Tensor, type Tree, tanh, withScope } from "../engine/index.ts";
import {
  commonInertKeys,
  endTokens,
  expectAllKvHeads,
  expectMultiple,
  formatEndTokens,
  parseModelConfig,
  tokenIds,
} from "./config.ts";
import {
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
  checkInputs,
  checkpointed,
  DropoutStreams,
  embedding,
  float32,
  inModule,
  layerNorm,
  linear,
  type Module,
  moduleAt,
  ParameterList,
  positionsOf,
  requiredParameter,
  selectLast,
  selectRows,
} from "./layers/index.ts";

export interface BertConfig extends ModelConfig {
  readonly modelType: "bert";
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly typeVocabSize: number;
  readonly layerNormEps: number;
  readonly initializerRange: number;
  readonly hiddenDropout: number;
  readonly attnDropout: number;
  /** With the pooler and the next-sentence head (`BertForPreTraining`). */
  readonly nextSentence: boolean;
}

const rate = z.number().min(0).lt(1);
const schema = z.object({
  model_type: z.literal("bert"),
  architectures: z.array(z.string()).nullish(),
  vocab_size: z.int().positive().default(30522),
  max_position_embeddings: z.int().positive().default(512),
  type_vocab_size: z.int().positive().default(2),
  hidden_size: z.int().positive().default(768),
  num_hidden_layers: z.int().positive().default(12),
  num_attention_heads: z.int().positive().default(12),
  intermediate_size: z.int().positive().default(3072),
  hidden_act: z.enum(activationNames).default("gelu"),
  hidden_dropout_prob: rate.default(0.1),
  attention_probs_dropout_prob: rate.default(0.1),
  layer_norm_eps: z.number().positive().default(1e-12),
  initializer_range: z.number().positive().default(0.02),
  position_embedding_type: z.literal("absolute").default("absolute"),
  is_decoder: z.literal(false).default(false),
  add_cross_attention: z.literal(false).default(false),
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: tokenIds,
  /** The reference ties the head's bias only together with its weight, and no published checkpoint does neither. */
  tie_word_embeddings: z.literal(true).default(true),
});
const inertKeys = [...commonInertKeys, "classifier_dropout"];

function parseConfig(json: unknown): BertConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  expectMultiple(c, "hidden_size", "num_attention_heads");
  return Object.freeze({
    modelType: c.model_type,
    vocabSize: c.vocab_size,
    contextLength: c.max_position_embeddings,
    typeVocabSize: c.type_vocab_size,
    hiddenSize: c.hidden_size,
    numLayers: c.num_hidden_layers,
    numHeads: c.num_attention_heads,
    numKvHeads: c.num_attention_heads,
    headDim: c.hidden_size / c.num_attention_heads,
    intermediateSize: c.intermediate_size,
    activation: c.hidden_act,
    layerNormEps: c.layer_norm_eps,
    initializerRange: c.initializer_range,
    hiddenDropout: c.hidden_dropout_prob,
    attnDropout: c.attention_probs_dropout_prob,
    nextSentence: c.architectures?.includes("BertForPreTraining") ?? false,
    tieWordEmbeddings: true,
    ...endTokens(c),
    inert,
  });
}

function formatConfig(c: BertConfig): Record<string, unknown> {
  return {
    ...c.inert,
    architectures: [c.nextSentence ? "BertForPreTraining" : "BertForMaskedLM"],
    model_type: "bert",
    vocab_size: c.vocabSize,
    max_position_embeddings: c.contextLength,
    type_vocab_size: c.typeVocabSize,
    hidden_size: c.hiddenSize,
    num_hidden_layers: c.numLayers,
    num_attention_heads: c.numHeads,
    intermediate_size: c.intermediateSize,
    hidden_act: c.activation,
    hidden_dropout_prob: c.hiddenDropout,
    attention_probs_dropout_prob: c.attnDropout,
    layer_norm_eps: c.layerNormEps,
    initializer_range: c.initializerRange,
    tie_word_embeddings: true,
    ...formatEndTokens(c),
  };
}

function createConfig(dials: ModelDials): BertConfig {
  expectAllKvHeads("bert", dials);
  const { dropout = 0 } = dials;
  return parseConfig({
    model_type: "bert",
    vocab_size: dials.vocabSize,
    max_position_embeddings: dials.contextLength,
    hidden_size: dials.hiddenSize,
    num_hidden_layers: dials.numLayers,
    num_attention_heads: dials.numHeads,
    intermediate_size: dials.intermediateSize ?? 4 * dials.hiddenSize,
    hidden_dropout_prob: dropout,
    attention_probs_dropout_prob: dropout,
    tie_word_embeddings: dials.tieWordEmbeddings ?? true,
    bos_token_id: dials.bosTokenId,
    eos_token_id: dials.eosTokenId,
  });
}

const layerName = (i: number): string => `bert.encoder.layer.${i}`;

function parameters(c: BertConfig): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F } = c;
  const list = new ParameterList({ std: c.initializerRange });
  const dense = (name: string, from: number, to: number): void => list.linear(name, from, to, { bias: true });
  list.embedding("bert.embeddings.word_embeddings", c.vocabSize, D);
  list.embedding("bert.embeddings.position_embeddings", c.contextLength, D);
  list.embedding("bert.embeddings.token_type_embeddings", c.typeVocabSize, D);
  list.layerNorm("bert.embeddings.LayerNorm", D);
  for (let i = 0; i < c.numLayers; i++) {
    const layer = layerName(i);
    for (const name of ["query", "key", "value"]) dense(`${layer}.attention.self.${name}`, D, D);
    dense(`${layer}.attention.output.dense`, D, D);
    list.layerNorm(`${layer}.attention.output.LayerNorm`, D);
    dense(`${layer}.intermediate.dense`, D, F);
    dense(`${layer}.output.dense`, F, D);
    list.layerNorm(`${layer}.output.LayerNorm`, D);
  }
  if (c.nextSentence) dense("bert.pooler.dense", D, D);
  dense("cls.predictions.transform.dense", D, D);
  list.layerNorm("cls.predictions.transform.LayerNorm", D);
  list.bias("cls.predictions", c.vocabSize);
  if (c.nextSentence) dense("cls.seq_relationship", D, 2);
  return list.specs;
}

/** Second names: the tied head, and the norms' gamma and beta of the first checkpoints. */
function tied(c: BertConfig): Record<string, string> {
  const copies: Record<string, string> = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
  };
  for (const name of Object.keys(parameters(c))) {
    if (name.endsWith("LayerNorm.weight")) copies[name.replace(/weight$/, "gamma")] = name;
    if (name.endsWith("LayerNorm.bias")) copies[name.replace(/bias$/, "beta")] = name;
  }
  return copies;
}

/** BERT (Devlin et al. 2019), as `BertForMaskedLM` or, where config.json says so, `BertForPreTraining`. */
export const bert = defineModel<BertConfig>({
  modelType: "bert",
  kind: "encoder",
  architecture: "BertForMaskedLM",
  parseConfig,
  formatConfig,
  createConfig,
  parameters,
  // A checkpoint of both heads opens as a masked language model too, without what that does not have.
  checkpoint: { tied, inert: /^(bert\.embeddings\.position_ids|bert\.pooler\..*|cls\.seq_relationship\..*)$/ },
  cacheShape: () => ({}),

  forward(params, inputs, c, context) {
    const x = encode(params, inputs, c, context);
    const { rows, lastIndex } = inputs;
    const read = rows !== undefined ? selectRows(x, rows) : lastIndex !== undefined ? selectLast(x, lastIndex) : x;
    return { logits: inModule(params, "cls.predictions", (p) => predictions(read, p, params, c)) };
  },
});

/** tokens[B,T] -> logits[B,2]: does the second text follow the first? Reads the first token; needs `nextSentence`. */
export function bertNextSentence(
  params: Tree<Tensor>,
  inputs: ForwardInputs,
  c: BertConfig,
  context?: ForwardContext,
): Tensor {
  if (!c.nextSentence) {
    throw new PlinthError(
      "bert: this model has no next-sentence head",
      'load a checkpoint whose config.json says "architectures": ["BertForPreTraining"]',
    );
  }
  const x = encode(params, inputs, c, context);
  const [B, , D] = x.shape as [number, number, number];
  const first = reshape(slice(x, { starts: [0, 0, 0], limits: [B, 1, D] }), [B, D]);
  const pooled = inModule(params, "bert.pooler.dense", (p) => tanh(linear(first, p)));
  return inModule(params, "cls.seq_relationship", (p) => linear(pooled, p));
}

/** tokens[B,T] -> x[B,T,D]: the encoder without heads. */
function encode(
  params: Tree<Tensor>,
  inputs: ForwardInputs,
  c: BertConfig,
  context: ForwardContext | undefined,
): Tensor {
  checkInputs(inputs, c, "max_position_embeddings");
  const dropout = new DropoutStreams(context);
  let x = inModule(params, "bert.embeddings", (p) => embeddings(p, inputs, c));
  x = dropout.apply(x, c.hiddenDropout);
  for (let i = 0; i < c.numLayers; i++) {
    x = inModule(params, layerName(i), (p) => checkpointed(context, x, (x) => block(x, p, { c, inputs, dropout })));
  }
  return x;
}

/** tokens[B,T] -> x[B,T,D] */
function embeddings(p: Module, inputs: ForwardInputs, c: BertConfig): Tensor {
  const words = inModule(p, "word_embeddings", (p) => embedding(inputs.tokens, p));
  const types = inModule(p, "token_type_embeddings", (p) => {
    if (inputs.tokenTypes !== undefined) return embedding(inputs.tokenTypes, p);
    // Every token is of the first type: one row for all.
    return float32(slice(requiredParameter(p, "weight"), { starts: [0, 0], limits: [1, c.hiddenSize] }));
  });
  const positions = inModule(p, "position_embeddings", (p) => embedding(positionsOf(inputs), p));
  return inModule(p, "LayerNorm", (p) => layerNorm(add(add(words, types), positions), p, { eps: c.layerNormEps }));
}

interface BlockContext {
  readonly c: BertConfig;
  readonly inputs: ForwardInputs;
  readonly dropout: DropoutStreams;
}

/** x[B,T,D] -> x[B,T,D] */
function block(x: Tensor, p: Module, context: BlockContext): Tensor {
  const { c } = context;
  const attended = inModule(p, "attention.self", (p) => attention(x, p, context));
  const h = inModule(p, "attention.output", (p) => addAndNorm(attended, x, p, context));
  const wide = inModule(p, "intermediate.dense", (p) => activations[c.activation](linear(h, p)));
  return inModule(p, "output", (p) => addAndNorm(wide, h, p, context));
}

/** Projects a sublayer's result to the residual stream, adds it and normalises the sum. */
function addAndNorm(y: Tensor, residual: Tensor, p: Module, { c, dropout }: BlockContext): Tensor {
  const projected = dropout.apply(linear(y, moduleAt(p, "dense")), c.hiddenDropout);
  return inModule(p, "LayerNorm", (p) => layerNorm(add(projected, residual), p, { eps: c.layerNormEps }));
}

/** x[B,T,D] -> [B,T,D], before the output's projection */
function attention(x: Tensor, p: Module, { c, inputs, dropout }: BlockContext): Tensor {
  const [B, T, D] = x.shape as [number, number, number];
  const heads = (name: string): Tensor => reshape(linear(x, moduleAt(p, name)), [B, T, c.numHeads, c.headDim]);
  const y = bidirectionalAttention(heads("query"), heads("key"), heads("value"), {
    scale: c.headDim ** -0.5,
    inputs,
    dropout: dropout.site(c.attnDropout),
  });
  return reshape(y, [B, T, D]);
}

/** x[...,D] -> logits[...,V] */
function predictions(x: Tensor, p: Module, params: Tree<Tensor>, c: BertConfig): Tensor {
  const transformed = inModule(p, "transform", (p) => {
    const y = activations[c.activation](linear(x, moduleAt(p, "dense")));
    return inModule(p, "LayerNorm", (p) => layerNorm(y, p, { eps: c.layerNormEps }));
  });
  const bias = float32(requiredParameter(p, "bias"));
  const table = requiredParameter(moduleAt(params, "bert.embeddings.word_embeddings"), "weight");
  return withScope("decoder", () => add(matmul(transformed, table, { transposeB: true }), bias));
}
