/** What Llama, Mistral and Qwen compute alike: all but which keys of config.json say what, and how far a layer sees. */
import { add, type Tensor } from "../engine/index.ts";
import type { ModelFamily } from "./family.ts";
import {
  gatedMlp,
  gatedMlpParameters,
  inModule,
  type Module,
  type RotaryAttentionParameters,
  type RotaryBlock,
  rmsNorm,
  rotaryAttention,
  rotaryAttentionParameters,
  rotaryDecoder,
  rotaryDecoderParameters,
} from "./layers/index.ts";
import type { RotaryConfig } from "./rotary-config.ts";

export interface LlamaDecoder<C extends RotaryConfig> {
  /** Biases of attention, and the norms of its queries and keys; default none. */
  attention?(c: C): RotaryAttentionParameters;
  /** Whether the feed-forward part has biases; default not. */
  mlpBias?(c: C): boolean;
  /** How many of the latest tokens a token sees in a layer, itself included; all where undefined, which is the default. */
  window?(c: C, layer: number): number | undefined;
}

/**
 * A decoder of Llama's blocks under Llama's names (Touvron et al. 2023): RMS norm before each sublayer, rotary positions,
 * grouped-query attention, a gated feed-forward part.
 */
export function llamaDecoder<C extends RotaryConfig>({
  attention: attentionOf = () => ({}),
  mlpBias = () => false,
  window = () => undefined,
}: LlamaDecoder<C> = {}): Pick<ModelFamily<C>, "parameters" | "checkpoint" | "cacheShape" | "forward" | "hidden"> {
  const norm = (x: Tensor, p: Module, c: C): Tensor => rmsNorm(x, p, { eps: c.rmsNormEps });

  /** x[B,T,D] -> x[B,T,D] */
  const block = (x: Tensor, p: Module, { c, layer, attention }: RotaryBlock<C>): Tensor => {
    const own = {
      window: window(c, layer),
      normalize: attentionOf(c).norms === undefined ? undefined : (x: Tensor, p: Module) => norm(x, p, c),
    };
    const normed = inModule(p, "input_layernorm", (p) => norm(x, p, c));
    const attended = inModule(p, "self_attn", (p) => rotaryAttention(normed, p, { ...attention, ...own }));
    const h = add(x, attended);
    const normedAgain = inModule(p, "post_attention_layernorm", (p) => norm(h, p, c));
    const fed = inModule(p, "mlp", (p) => gatedMlp(normedAgain, p, c.activation));
    return add(h, fed);
  };

  return {
    parameters: (c) =>
      rotaryDecoderParameters(c, (list, layer) => {
        list.rmsNorm(`${layer}.input_layernorm`, c.hiddenSize);
        rotaryAttentionParameters(list, `${layer}.self_attn`, c, attentionOf(c));
        list.rmsNorm(`${layer}.post_attention_layernorm`, c.hiddenSize);
        gatedMlpParameters(list, `${layer}.mlp`, c, { bias: mlpBias(c) });
      }),
    ...rotaryDecoder<C>({ block, norm }),
  };
}
