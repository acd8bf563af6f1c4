/**
 * Mixtral (Jiang et al. 2024): Mistral with a mixture of experts in place of the feed-forward layer, two of eight for each token.
 * Reference: `MixtralForCausalLM` of transformers; names are those of the published checkpoints (`block_sparse_moe`), which
 * it writes as well.
 */
import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { add, mul, type Tensor } from "../engine/index.ts";
import { commonInertKeys, parseModelConfig } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import {
  activations,
  balanceLoss,
  inModule,
  type Module,
  mixtureOfExperts,
  type RotaryBlock,
  rmsNorm,
  rotaryAttention,
  rotaryAttentionParameters,
  rotaryDecoder,
  rotaryDecoderParameters,
} from "./layers/index.ts";
import { formatRotaryConfig, type RotaryConfig, rotaryConfig, rotaryDials, rotaryKeys } from "./rotary-config.ts";

export interface MixtralConfig extends RotaryConfig {
  readonly modelType: "mixtral";
  /** How many of the latest tokens a token sees, itself included; all when absent. */
  readonly slidingWindow?: number;
  readonly numExperts: number;
  /** Experts that each token is given to. */
  readonly numExpertsPerToken: number;
  /** Training adds the loss that keeps experts evenly used, times the coefficient. */
  readonly hasBalanceLoss: boolean;
  readonly balanceLossCoefficient: number;
}

const schema = z.object({
  model_type: z.literal("mixtral"),
  ...rotaryKeys,
  intermediate_size: rotaryKeys.intermediate_size.default(14336),
  num_key_value_heads: rotaryKeys.num_key_value_heads.default(8),
  max_position_embeddings: rotaryKeys.max_position_embeddings.default(131072),
  rms_norm_eps: rotaryKeys.rms_norm_eps.default(1e-5),
  sliding_window: z.int().positive().nullish(),
  num_local_experts: z.int().positive().default(8),
  num_experts_per_tok: z.int().positive().default(2),
  output_router_logits: z.boolean().default(false),
  router_aux_loss_coef: z.number().nonnegative().default(0.001),
  // Noise on what the experts read while training.
  router_jitter_noise: z.literal(0).default(0),
});

function parseConfig(json: unknown): MixtralConfig {
  const { values: c, inert } = parseModelConfig(json, schema, commonInertKeys);
  if (c.num_experts_per_tok > c.num_local_experts) {
    throw new PlinthError(
      `config.json: num_experts_per_tok ${c.num_experts_per_tok} of num_local_experts ${c.num_local_experts}`,
      "change one of them",
    );
  }
  return Object.freeze({
    modelType: c.model_type,
    ...rotaryConfig(c, { defaultTheta: 1e6 }),
    ...(typeof c.sliding_window === "number" ? { slidingWindow: c.sliding_window } : {}),
    numExperts: c.num_local_experts,
    numExpertsPerToken: c.num_experts_per_tok,
    hasBalanceLoss: c.output_router_logits,
    balanceLossCoefficient: c.router_aux_loss_coef,
    inert,
  });
}

function formatConfig(c: MixtralConfig): Record<string, unknown> {
  return {
    ...formatRotaryConfig(c),
    sliding_window: c.slidingWindow ?? null,
    num_local_experts: c.numExperts,
    num_experts_per_tok: c.numExpertsPerToken,
    output_router_logits: c.hasBalanceLoss,
    router_aux_loss_coef: c.balanceLossCoefficient,
    router_jitter_noise: 0,
  };
}

/** Eight experts of the width that is asked for, with the published coefficient of the balance loss. */
function createConfig(dials: ModelDials): MixtralConfig {
  return parseConfig({
    model_type: "mixtral",
    ...rotaryDials(dials),
    output_router_logits: true,
    router_aux_loss_coef: 0.02,
  });
}

function parameters(c: MixtralConfig): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F } = c;
  return rotaryDecoderParameters(c, (list, layer) => {
    list.rmsNorm(`${layer}.input_layernorm`, D);
    rotaryAttentionParameters(list, `${layer}.self_attn`, c);
    list.rmsNorm(`${layer}.post_attention_layernorm`, D);
    list.linear(`${layer}.block_sparse_moe.gate`, D, c.numExperts);
    for (let e = 0; e < c.numExperts; e++) {
      const expert = `${layer}.block_sparse_moe.experts.${e}`;
      list.linear(`${expert}.w1`, D, F);
      list.linear(`${expert}.w3`, D, F);
      list.linear(`${expert}.w2`, F, D);
    }
  });
}

export const mixtral = defineModel<MixtralConfig>({
  modelType: "mixtral",
  ...decoderHeads(
    { lm: "MixtralForCausalLM", "sequence-classification": "MixtralForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  floatKeys: ["router_aux_loss_coef", "router_jitter_noise"],
  createConfig,
  parameters,
  ...rotaryDecoder<MixtralConfig>({
    block,
    norm: (x, p, c) => rmsNorm(x, p, { eps: c.rmsNormEps }),
    auxiliaryLoss: (notes, tokens, c) => {
      if (!c.hasBalanceLoss) return undefined;
      const layers = notes.map(([counts, probabilities]) => ({ counts, probabilities }) as Routing);
      return mul(balanceLoss(layers, { numExperts: c.numExperts, tokens }), c.balanceLossCoefficient);
    },
  }),
});
type Routing = Parameters<typeof balanceLoss>[0][number];

/** x[B,T,D] -> x[B,T,D], and how the tokens were shared out among the experts. */
function block(x: Tensor, p: Module, { c, attention }: RotaryBlock<MixtralConfig>): Tensor[] {
  const norm = (x: Tensor, name: string): Tensor => inModule(p, name, (p) => rmsNorm(x, p, { eps: c.rmsNormEps }));
  const normed = norm(x, "input_layernorm");
  const window = c.slidingWindow;
  const attended = inModule(p, "self_attn", (p) => rotaryAttention(normed, p, { ...attention, window }));
  const h = add(x, attended);
  const normedAgain = norm(h, "post_attention_layernorm");
  const { y, counts, probabilities } = inModule(p, "block_sparse_moe", (p) =>
    mixtureOfExperts(normedAgain, p, {
      numExperts: c.numExperts,
      numChosen: c.numExpertsPerToken,
      // SwiGLU (Shazeer 2020).
      expert: (x, product) => product(mul(activations[c.activation](product(x, "w1")), product(x, "w3")), "w2"),
    }),
  );
  return [add(h, y), counts, probabilities];
}
