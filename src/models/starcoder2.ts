/**
 * StarCoder 2 (Lozhkov et al. 2024): rotary positions, grouped-query attention in a sliding window, layer norm and biases
 * throughout, a feed-forward part without gate. Reference: `Starcoder2ForCausalLM` of transformers. Knows nothing of
 * training, adapters, files or devices.
 */
import { z } from "zod";
import { add, type Tensor } from "../engine/index.ts";
import { commonInertKeys, parseModelConfig } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  activations,
  inModule,
  layerNorm,
  linear,
  type Module,
  moduleAt,
  type RotaryBlock,
  rotaryAttention,
  rotaryAttentionParameters,
  rotaryDecoder,
  rotaryDecoderParameters,
} from "./layers/index.ts";
import { formatRotaryConfig, type RotaryConfig, rotaryConfig, rotaryDials, rotaryKeys } from "./rotary-config.ts";

export interface Starcoder2Config extends Omit<RotaryConfig, "rmsNormEps"> {
  readonly modelType: "starcoder2";
  readonly layerNormEps: number;
  /** Biases of all linear layers but the head. */
  readonly useBias: boolean;
  readonly residDropout: number;
  readonly embdDropout: number;
  /** How many of the latest tokens a token sees, itself included; all when absent. */
  readonly slidingWindow?: number;
}

const { rms_norm_eps: normEps, ...sharedKeys } = rotaryKeys;
const rate = z.number().min(0).lt(1);
const schema = z.object({
  model_type: z.literal("starcoder2"),
  ...sharedKeys,
  vocab_size: sharedKeys.vocab_size.default(49152),
  hidden_size: sharedKeys.hidden_size.default(3072),
  intermediate_size: sharedKeys.intermediate_size.default(12288),
  num_hidden_layers: sharedKeys.num_hidden_layers.default(30),
  num_attention_heads: sharedKeys.num_attention_heads.default(24),
  num_key_value_heads: sharedKeys.num_key_value_heads.default(2),
  hidden_act: sharedKeys.hidden_act.default("gelu_pytorch_tanh"),
  max_position_embeddings: sharedKeys.max_position_embeddings.default(4096),
  initializer_range: sharedKeys.initializer_range.default(0.018042),
  norm_epsilon: normEps.default(1e-5),
  sliding_window: z.int().positive().nullish(),
  use_bias: z.boolean().default(true),
  residual_dropout: rate.default(0),
  embedding_dropout: rate.default(0),
  bos_token_id: sharedKeys.bos_token_id.default(50256),
  eos_token_id: sharedKeys.eos_token_id.default([50256]),
  tie_word_embeddings: z.boolean().default(true),
  mlp_type: z.literal("default").optional(),
  norm_type: z.literal("layer_norm").optional(),
});
/** `layer_norm_epsilon` is there in published files but not read; `*_in_fp32` only matter to half-precision arithmetic. */
const inertKeys = [
  ...commonInertKeys,
  ...["attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "layer_norm_epsilon"],
];

function parseConfig(json: unknown): Starcoder2Config {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  const { rmsNormEps: layerNormEps, ...shared } = rotaryConfig({ ...c, rms_norm_eps: c.norm_epsilon });
  return Object.freeze({
    modelType: c.model_type,
    ...shared,
    layerNormEps,
    useBias: c.use_bias,
    residDropout: c.residual_dropout,
    embdDropout: c.embedding_dropout,
    ...(typeof c.sliding_window === "number" ? { slidingWindow: c.sliding_window } : {}),
    inert,
  });
}

function formatConfig(c: Starcoder2Config): Record<string, unknown> {
  const { rms_norm_eps, ...shared } = formatRotaryConfig({ ...c, rmsNormEps: c.layerNormEps });
  return {
    ...shared,
    norm_epsilon: rms_norm_eps,
    use_bias: c.useBias,
    residual_dropout: c.residDropout,
    embedding_dropout: c.embdDropout,
    sliding_window: c.slidingWindow ?? null,
  };
}

function createConfig(dials: ModelDials): Starcoder2Config {
  const { dropout = 0, hiddenSize, tieWordEmbeddings = true } = dials;
  return parseConfig({
    model_type: "starcoder2",
    ...rotaryDials({ ...dials, intermediateSize: dials.intermediateSize ?? 4 * hiddenSize, tieWordEmbeddings }),
    attention_dropout: dropout,
    residual_dropout: dropout,
    embedding_dropout: dropout,
  });
}

function parameters(c: Starcoder2Config): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F, useBias: bias } = c;
  return rotaryDecoderParameters(
    c,
    (list, layer) => {
      list.layerNorm(`${layer}.input_layernorm`, D);
      rotaryAttentionParameters(list, `${layer}.self_attn`, c, { bias });
      list.layerNorm(`${layer}.post_attention_layernorm`, D);
      list.linear(`${layer}.mlp.c_fc`, D, F, { bias });
      list.linear(`${layer}.mlp.c_proj`, F, D, { bias });
    },
    { norms: "layer" },
  );
}

export const starcoder2 = defineModel<Starcoder2Config>({
  modelType: "starcoder2",
  ...decoderHeads(
    { lm: "Starcoder2ForCausalLM", "sequence-classification": "Starcoder2ForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  parameters,
  ...rotaryDecoder<Starcoder2Config>({
    block,
    norm: (x, p, c) => layerNorm(x, p, { eps: c.layerNormEps }),
    scaleEmbeddings: (x, c, dropout) => dropout.apply(x, c.embdDropout),
  }),
});

/** x[B,T,D] -> x[B,T,D] */
function block(x: Tensor, p: Module, { c, attention, dropout }: RotaryBlock<Starcoder2Config>): Tensor {
  const norm = (x: Tensor, name: string): Tensor => inModule(p, name, (p) => layerNorm(x, p, { eps: c.layerNormEps }));
  const normed = norm(x, "input_layernorm");
  const attended = inModule(p, "self_attn", (p) =>
    rotaryAttention(normed, p, { ...attention, window: c.slidingWindow }),
  );
  const h = add(x, dropout.apply(attended, c.residDropout));
  const normedAgain = norm(h, "post_attention_layernorm");
  const fed = inModule(p, "mlp", (p) => mlp(normedAgain, p, c));
  return add(h, dropout.apply(fed, c.residDropout));
}

/** x[B,T,D] -> [B,T,D] */
function mlp(x: Tensor, p: Module, c: Starcoder2Config): Tensor {
  return linear(activations[c.activation](linear(x, moduleAt(p, "c_fc"))), moduleAt(p, "c_proj"));
}
