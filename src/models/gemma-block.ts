/** What Gemma 2 and 3 compute alike: norms that add 1 to their weight, before and after each sublayer; embeddings scaled by sqrt(D). */
import { add, mul, type Tensor } from "../engine/index.ts";
import type { ParameterSpec } from "./family.ts";
import type { GemmaConfig } from "./gemma-config.ts";
import { windowOf } from "./layer-types.ts";
import {
  gatedMlp,
  gatedMlpParameters,
  inModule,
  type Module,
  type RotaryAttentionOptions,
  type RotaryBlock,
  rmsNorm,
  rotaryAttention,
  rotaryAttentionParameters,
  rotaryDecoderParameters,
} from "./layers/index.ts";

/** The parameters; with `attentionNorms` queries and keys have norms too. */
export function gemmaParameters(
  c: GemmaConfig,
  { attentionNorms = false }: { attentionNorms?: boolean } = {},
): Record<string, ParameterSpec> {
  const start = { start: "zeros" } as const;
  const norms = attentionNorms ? ({ norms: "zeros" } as const) : {};
  return rotaryDecoderParameters(
    c,
    (list, layer) => {
      list.rmsNorm(`${layer}.input_layernorm`, c.hiddenSize, start);
      rotaryAttentionParameters(list, `${layer}.self_attn`, c, { bias: c.attentionBias, ...norms });
      list.rmsNorm(`${layer}.post_attention_layernorm`, c.hiddenSize, start);
      list.rmsNorm(`${layer}.pre_feedforward_layernorm`, c.hiddenSize, start);
      gatedMlpParameters(list, `${layer}.mlp`, c);
      list.rmsNorm(`${layer}.post_feedforward_layernorm`, c.hiddenSize, start);
    },
    { norms: "zeros" },
  );
}

export function gemmaNorm(x: Tensor, p: Module, c: GemmaConfig): Tensor {
  return rmsNorm(x, p, { eps: c.rmsNormEps, offset: 1 });
}

export function gemmaEmbeddings(x: Tensor, c: GemmaConfig): Tensor {
  return mul(x, Math.sqrt(c.hiddenSize));
}

/** x[B,T,D] -> x[B,T,D]; `own` is what the family's attention has besides scale and window. */
export function gemmaBlock<C extends GemmaConfig>(
  x: Tensor,
  p: Module,
  { c, layer, attention }: RotaryBlock<C>,
  own: Partial<RotaryAttentionOptions>,
): Tensor {
  const norm = (x: Tensor, name: string): Tensor => inModule(p, name, (p) => gemmaNorm(x, p, c));
  const normed = norm(x, "input_layernorm");
  const attended = inModule(p, "self_attn", (p) =>
    rotaryAttention(normed, p, {
      ...attention,
      scale: c.queryPreAttnScalar ** -0.5,
      window: windowOf(c, layer),
      ...own,
    }),
  );
  const h = add(x, norm(attended, "post_attention_layernorm"));
  const normedAgain = norm(h, "pre_feedforward_layernorm");
  const fed = inModule(p, "mlp", (p) => gatedMlp(normedAgain, p, c.activation));
  return add(h, norm(fed, "post_feedforward_layernorm"));
}
