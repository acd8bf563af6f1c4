import { type Shape, sizeOf } from "../ir/shape.ts";
import type { Step, View } from "./lowered.ts";

/**
 * Floating-point operations of a step's matrix products and convolutions (multiply and add count as two). Attention counts the products
 * it performs: two forward, five backward (it computes the scores again), half of each where causal masking skips them.
 */
export function flopsOf(step: Step): number {
  if (["matmul", "matmul_add", "quantized_matmul", "grouped_matmul"].includes(step.kernel)) {
    const inner = (step.inputs[0] as View).shape.at(-1) ?? 0;
    // Weights that share their input have an output each; what an epilogue makes of one product is no more of it.
    const products = step.kernel === "quantized_matmul" ? step.outputs : step.outputs.slice(0, 1);
    return products.reduce((sum, { shape }) => sum + 2 * sizeOf(shape) * inner, 0);
  }
  if (step.kernel === "grouped_outer") {
    const [[rows = 0, left = 0] = [], [, right = 0] = []] = step.inputs.map(({ shape }) => shape);
    return 2 * rows * left * right;
  }
  if (step.kernel.startsWith("conv")) {
    // Every point of y[N, O, ...] with the taps of one output channel; weight and y are in turn inputs and output.
    const of = (list: readonly View[], i: number): Shape => (list[i] as View).shape;
    const { inputs, outputs } = step;
    const y = step.kernel === "conv" ? of(outputs, 0) : of(inputs, step.kernel === "conv_input_grad" ? 0 : 1);
    const weight = step.kernel === "conv_weight_grad" ? of(outputs, 0) : of(inputs, 1);
    return 2 * sizeOf(y) * sizeOf(weight.slice(1));
  }
  if (step.kernel !== "attention" && step.kernel !== "attention_grad") return 0;
  const [B = 0, T = 0, H = 0, K = 0] = (step.inputs[0] as View).shape;
  const S = (step.inputs[1] as View).shape[1] ?? 0;
  const [causal, hasStart] = step.ints;
  // With `start` the queries sit at the end of the keys and see nearly all of them.
  const share = causal === 1 && hasStart !== 1 ? 0.5 : 1;
  return (step.kernel === "attention" ? 2 : 5) * 2 * B * H * T * S * K * share;
}
