import { mul, type Tensor } from "../../engine/index.ts";
import { type ActivationName, activations } from "./activation.ts";
import { linear } from "./linear.ts";
import { type Module, moduleAt } from "./module.ts";
import type { DenseOptions, ParameterList } from "./parameter-list.ts";

/**
 * x[...,D] -> [...,D] by way of [...,F]: `down_proj(activation(gate_proj(x)) * up_proj(x))`, with silu SwiGLU, with gelu
 * GeGLU (Shazeer 2020).
 */
export function gatedMlp(x: Tensor, p: Module, activation: ActivationName): Tensor {
  const gate = activations[activation](linear(x, moduleAt(p, "gate_proj")));
  return linear(mul(gate, linear(x, moduleAt(p, "up_proj"))), moduleAt(p, "down_proj"));
}

/** The parameters that {@link gatedMlp} reads. */
export function gatedMlpParameters(
  list: ParameterList,
  name: string,
  c: { readonly hiddenSize: number; readonly intermediateSize: number },
  options: Pick<DenseOptions, "bias"> = {},
): void {
  list.linear(`${name}.gate_proj`, c.hiddenSize, c.intermediateSize, options);
  list.linear(`${name}.up_proj`, c.hiddenSize, c.intermediateSize, options);
  list.linear(`${name}.down_proj`, c.intermediateSize, c.hiddenSize, options);
}
