/**
 * GPT-2 (Radford et al. 2019): learned positions, layer norm before each sublayer, Conv1D weights [in, out]. Reference:
 * `GPT2LMHeadModel` of transformers. Knows nothing of training, adapters, files or devices.
 */
import { z } from "zod";
import { reshape, split, type Tensor } from "../engine/index.ts";
import { commonInertKeys, expectAllKvHeads, parseModelConfig } from "./config.ts";
import { decoderHeads } from "./decoder-heads.ts";
import { defineModel, type ModelDials, type ParameterSpec } from "./family.ts";
import { formatGptConfig, type GptConfig, gptConfig, gptDials, gptKeys } from "./gpt-config.ts";
import {
  activations,
  causalAttention,
  conv1d,
  type GptBlock,
  gptDecoder,
  gptDecoderParameters,
  type Module,
  moduleAt,
} from "./layers/index.ts";

export interface Gpt2Config extends GptConfig {
  readonly modelType: "gpt2";
  /** Divide attention scores by the number of the layer too, counted from 1. */
  readonly scaleAttnByInverseLayerIdx: boolean;
}

const schema = z.object({
  model_type: z.literal("gpt2"),
  ...gptKeys,
  scale_attn_by_inverse_layer_idx: z.boolean().default(false),
});
/** `reorder_and_upcast_attn` only matters to half-precision arithmetic; `n_ctx` repeats `n_positions`. */
const inertKeys = [...commonInertKeys, "summary_*", "reorder_and_upcast_attn", "n_ctx"];

function parseConfig(json: unknown): Gpt2Config {
  const { values: c, inert } = parseModelConfig(json, schema, inertKeys);
  return Object.freeze({
    modelType: c.model_type,
    ...gptConfig(c),
    scaleAttnByInverseLayerIdx: c.scale_attn_by_inverse_layer_idx,
    inert,
  });
}

function formatConfig(c: Gpt2Config): Record<string, unknown> {
  return {
    ...formatGptConfig(c),
    scale_attn_by_inverse_layer_idx: c.scaleAttnByInverseLayerIdx,
  };
}

function createConfig(dials: ModelDials): Gpt2Config {
  expectAllKvHeads("gpt2", dials);
  return parseConfig({ model_type: "gpt2", ...gptDials(dials) });
}

function parameters(c: Gpt2Config): Record<string, ParameterSpec> {
  const { hiddenSize: D, intermediateSize: F } = c;
  // Two additions to the residual stream per layer: their variance stays that of one (Radford et al. 2019, 2.3).
  const residual = { kind: "normal", std: c.initializerRange / Math.sqrt(2 * c.numLayers) } as const;
  return gptDecoderParameters(c, (list, layer) => {
    list.layerNorm(`${layer}.ln_1`, D);
    list.conv1d(`${layer}.attn.c_attn`, D, 3 * D);
    list.conv1d(`${layer}.attn.c_proj`, D, D, { init: residual });
    list.layerNorm(`${layer}.ln_2`, D);
    list.conv1d(`${layer}.mlp.c_fc`, D, F);
    list.conv1d(`${layer}.mlp.c_proj`, F, D, { init: residual });
  });
}

/**
 * GPT-2 (Radford et al. 2019), as `GPT2LMHeadModel`: learned positions, pre-norm blocks, `Conv1D` weights [in,out], head tied
 * to the embedding.
 */
export const gpt2 = defineModel<Gpt2Config>({
  modelType: "gpt2",
  ...decoderHeads(
    { lm: "GPT2LMHeadModel", "sequence-classification": "GPT2ForSequenceClassification" },
    { parseConfig, formatConfig },
  ),
  createConfig,
  parameters,
  ...gptDecoder({ limitKey: "n_positions", attentionPath: "attn", attention, mlp }),
});

/** x[B,T,D] -> [B,T,D] */
function attention(
  x: Tensor,
  p: Module,
  { c, layer, inputs, dropout, cacheName, newCache }: GptBlock<Gpt2Config>,
): Tensor {
  const [B, T, D] = x.shape as [number, number, number];
  const qkv = conv1d(x, moduleAt(p, "c_attn"));
  const [q, k, v] = split(qkv, 3, { axis: 2 }).map((y) => reshape(y, [B, T, c.numHeads, c.headDim])) as Heads;
  const scale = (c.scaleAttnWeights ? c.headDim ** -0.5 : 1) / (c.scaleAttnByInverseLayerIdx ? layer + 1 : 1);
  const y = causalAttention(q, k, v, {
    scale,
    inputs,
    cacheName,
    newCache,
    dropout: dropout.site(c.attnDropout),
  });
  return conv1d(reshape(y, [B, T, D]), moduleAt(p, "c_proj"));
}
type Heads = [q: Tensor, k: Tensor, v: Tensor];

/** x[B,T,D] -> [B,T,D] */
function mlp(x: Tensor, p: Module, c: Gpt2Config): Tensor {
  return conv1d(activations[c.activation](conv1d(x, moduleAt(p, "c_fc"))), moduleAt(p, "c_proj"));
}
