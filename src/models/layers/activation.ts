import { gelu, mul, relu, sigmoid, silu, type Tensor, tanh } from "../../engine/index.ts";

/** Activations under the names that config.json uses (`hidden_act`, `activation_function`). */
export const activations = {
  /** Hendrycks and Gimpel 2016, by the error function. */
  gelu: (x) => gelu(x),
  gelu_new: (x) => gelu(x, { approximate: true }),
  gelu_fast: (x) => gelu(x, { approximate: true }),
  gelu_pytorch_tanh: (x) => gelu(x, { approximate: true }),
  quick_gelu: (x) => mul(x, sigmoid(mul(x, 1.702))),
  relu: (x) => relu(x),
  sigmoid: (x) => sigmoid(x),
  silu: (x) => silu(x),
  swish: (x) => silu(x),
  tanh: (x) => tanh(x),
} as const satisfies Record<string, (x: Tensor) => Tensor>;

export type ActivationName = keyof typeof activations;
export const activationNames = Object.keys(activations) as [ActivationName, ...ActivationName[]];
