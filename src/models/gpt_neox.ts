/**
 * GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023): attention and feed-forward side by side, each with a layer
 * norm of its own, rotary positions on the first part of every head, one product for queries, keys and values. Reference:
 * `GPTNeoXForCausalLM` of transformers.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { add, reshape, split, type Tensor } from "../engine/index.ts";
import { commonInertKeys, expectAllKvHeads, expectMultiple, parseModelConfig, tokenIds } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  activations,
  causalAttention,
  inModule,
  layerNorm,
  linear,
  type Module,
  moduleAt,
  type RotaryAttentionOptions,
  type RotaryBlock,
  type RotaryNames,
  rotaryDecoder,
  rotaryDecoderParameters,
  rotatePart,
} from "./layers/index.ts";
import { formatRotaryConfig, type RotaryConfig, rotaryConfig, rotaryDials, rotaryKeys } from "./rotary-config.ts";

export interface GptNeoXConfig extends Omit<RotaryConfig, "rmsNormEps"> {
  readonly modelType: "gpt_neox";
  /** Share of a head's channels that are rotated, the first ones. */
  readonly rotaryShare: number;
  readonly layerNormEps: number;
  /** Of embeddings, attention's output and the feed-forward part's. */
  readonly hiddenDropout: number;
  readonly attentionBias: boolean;
  /** Attention and feed-forward read the same x; otherwise one after the other. */
  readonly useParallelResidual: boolean;
}

const { rms_norm_eps: normEps, num_key_value_heads: _, head_dim: __, ...sharedKeys } = rotaryKeys;
const schema = z.object({
  model_type: z.literal("gpt_neox"),
  ...sharedKeys,
  vocab_size: sharedKeys.vocab_size.default(50432),
  hidden_size: sharedKeys.hidden_size.default(6144),
  intermediate_size: sharedKeys.intermediate_size.default(24576),
  num_hidden_layers: sharedKeys.num_hidden_layers.default(44),
  num_attention_heads: sharedKeys.num_attention_heads.default(64),
  hidden_act: sharedKeys.hidden_act.default("gelu"),
  layer_norm_eps: normEps.default(1e-5),
  hidden_dropout: z.number().min(0).lt(1).default(0),
  attention_bias: z.boolean().default(true),
  use_parallel_residual: z.boolean().default(true),
  // Names of GPT-NeoX's own, and what releases of transformers wrote beside them.
  rotary_emb_base: z.number().positive().optional(),
  rotary_pct: z.number().optional(),
  partial_rotary_factor: z.number().optional(),
  bos_token_id: sharedKeys.bos_token_id.default(0),
  eos_token_id: tokenIds.default([2]),
});
/** The first three are of other heads and releases; the reference does not read them. */
const inertKeys = ["classifier_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob", ...commonInertKeys];

function parseConfig(json: unknown): GptNeoXConfig {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  expectMultiple(c, "hidden_size", "num_attention_heads");
  const { rmsNormEps: layerNormEps, ...shared } = rotaryConfig(
    {
      ...c,
      rope_theta: oneOf(c, "rotary_emb_base", "rope_theta"),
      partial_rotary_factor: oneOf(c, "rotary_pct", "partial_rotary_factor"),
      rms_norm_eps: c.layer_norm_eps,
      num_key_value_heads: null,
      head_dim: null,
    },
    { defaultShare: 0.25 },
  );
  return Object.freeze({
    modelType: c.model_type,
    ...shared,
    rotaryShare: evenShare(shared),
    layerNormEps,
    hiddenDropout: c.hidden_dropout,
    attentionBias: c.attention_bias,
    useParallelResidual: c.use_parallel_residual,
    inert,
  });
}

/** The value of a key under either of its names. Throws PlinthError where they say different things. */
function oneOf<K extends string>(values: { readonly [P in K]?: number | undefined }, key: K, other: K) {
  const [a, b] = [values[key], values[other]];
  if (a === undefined || b === undefined || a === b) return a ?? b;
  throw new PlinthError(`config.json: ${key} is ${a} and ${other} is ${b}`, "remove the one that is wrong");
}

/** Throws PlinthError where the rotated channels of a head do not go in pairs. */
function evenShare({ rotaryShare: share = 1, headDim }: Pick<RotaryConfig, "rotaryShare" | "headDim">): number {
  const width = Math.floor(headDim * share);
  if (width > 0 && width % 2 === 0) return share;
  throw new PlinthError(
    `config.json: rotary_pct ${share} rotates ${width} of ${headDim} channels of a head, which are no pairs`,
    "choose a share that gives an even number",
  );
}

function formatConfig(c: GptNeoXConfig): Record<string, unknown> {
  const { rms_norm_eps, num_key_value_heads, head_dim, rope_theta, ...shared } = formatRotaryConfig({
    ...c,
    rmsNormEps: c.layerNormEps,
  });
  return {
    ...shared,
    rotary_emb_base: rope_theta,
    rotary_pct: c.rotaryShare,
    layer_norm_eps: rms_norm_eps,
    hidden_dropout: c.hiddenDropout,
    attention_bias: c.attentionBias,
    use_parallel_residual: c.useParallelResidual,
  };
}

/** As the published ones have it, a quarter of each head is rotated, or all where a quarter would not go in pairs. */
function createConfig(dials: ModelDials): GptNeoXConfig {
  expectAllKvHeads("gpt_neox", dials);
  const { dropout = 0, hiddenSize, intermediateSize = 4 * hiddenSize } = dials;
  const { num_key_value_heads, head_dim, ...shared } = rotaryDials({ ...dials, intermediateSize });
  return parseConfig({
    model_type: "gpt_neox",
    ...shared,
    rotary_pct: (hiddenSize / dials.numHeads) % 8 === 0 ? 0.25 : 1,
    attention_dropout: dropout,
    hidden_dropout: dropout,
  });
}

const names: RotaryNames = {
  root: "gpt_neox",
  embeddings: "embed_in",
  norm: "final_layer_norm",
  attention: "attention",
  head: "embed_out",
};

function parameters(c: GptNeoXConfig): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F, attentionBias: bias } = c;
  return rotaryDecoderParameters(
    c,
    (list, layer) => {
      list.layerNorm(`${layer}.input_layernorm`, D);
      list.layerNorm(`${layer}.post_attention_layernorm`, D);
      list.linear(`${layer}.attention.query_key_value`, D, 3 * D, { bias });
      list.linear(`${layer}.attention.dense`, D, D, { bias });
      list.linear(`${layer}.mlp.dense_h_to_4h`, D, F, { bias: true });
      list.linear(`${layer}.mlp.dense_4h_to_h`, F, D, { bias: true });
    },
    { norms: "layer", names },
  );
}

const decoder = rotaryDecoder<GptNeoXConfig>({
  names,
  block,
  norm: (x, p, c) => layerNorm(x, p, { eps: c.layerNormEps }),
  scaleEmbeddings: (x, c, dropout) => dropout.apply(x, c.hiddenDropout),
});

export const gptNeoX = defineModel<GptNeoXConfig>({
  modelType: "gpt_neox",
  ...decoderHeads(
    { lm: "GPTNeoXForCausalLM", "sequence-classification": "GPTNeoXForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  parameters,
  ...decoder,
  // The published files hold masks and angles too.
  checkpoint: {
    ...decoder.checkpoint,
    inert: /^(gpt_neox\.)?layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/,
  },
});

/** x[B,T,D] -> x[B,T,D] = h + mlp(norm(x)), sequentially h + mlp(norm(h)), where h = x + attention(norm(x)) */
function block(x: Tensor, p: Module, { c, attention: options, dropout }: RotaryBlock<GptNeoXConfig>): Tensor {
  const norm = (x: Tensor, name: string): Tensor => inModule(p, name, (p) => layerNorm(x, p, { eps: c.layerNormEps }));
  const normed = norm(x, "input_layernorm");
  const attended = inModule(p, "attention", (p) => attention(normed, p, options));
  const h = add(x, dropout.apply(attended, c.hiddenDropout));
  const normedAgain = norm(c.useParallelResidual ? x : h, "post_attention_layernorm");
  const fed = inModule(p, "mlp", (p) => mlp(normedAgain, p, c));
  return add(h, dropout.apply(fed, c.hiddenDropout));
}

/** x[B,T,D] -> [B,T,D]; each head's queries, keys and values lie side by side. */
function attention(x: Tensor, p: Module, { heads, rotation, ...options }: RotaryAttentionOptions): Tensor {
  const { numHeads, headDim } = heads;
  const [B, T, D] = x.shape as [number, number, number];
  const fused = reshape(linear(x, moduleAt(p, "query_key_value")), [B, T, numHeads, 3 * headDim]);
  const [q, k, v] = split(fused, 3, { axis: 3 }) as [Tensor, Tensor, Tensor];
  const y = causalAttention(rotatePart(q, rotation), rotatePart(k, rotation), v, options);
  return linear(reshape(y, [B, T, D]), moduleAt(p, "dense"));
}

/** x[B,T,D] -> [B,T,D] */
function mlp(x: Tensor, p: Module, c: GptNeoXConfig): Tensor {
  return linear(activations[c.activation](linear(x, moduleAt(p, "dense_h_to_4h"))), moduleAt(p, "dense_4h_to_h"));
}
