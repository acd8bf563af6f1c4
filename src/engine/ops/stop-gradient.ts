import { defineOp, type OpDef, type Oracle } from "../ir/op.ts";
import { apply, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { at, oracle } from "./support.ts";

/** Its input, as a constant to differentiation. */
export const stopGradientOp: OpDef = defineOp({
  name: "stopGradient",
  infer: (inputs) => [at(inputs, 0, "stopGradient")],
  evaluate: ([x], _, [type]) => [oracle(type as TensorType, (x as Oracle).data)],
  gradient: () => [undefined],
  lower: { kind: "view", layout: (_, { layout }) => [layout] },
  samples: ["normal", "empty", "size-1", "odd"].map((name, i) => ({
    name,
    inputs: [{ shape: [[4, 8], [0], [1], [7, 13]][i] as number[], dtype: "float32" as const }],
    noGradientCheck: "its gradient is defined as zero",
  })),
});

/**
 * The outputs of a function with a gradient rule of its own: inputs are the function's inputs followed by its outputs,
 * which pass through. attrs: {count: number of inputs, rule}.
 */
export const customGradientOp: OpDef = defineOp({
  name: "customGradient",
  infer: (inputs, attrs) => inputs.slice(attrs["count"] as number),
  evaluate: (inputs, attrs, types) =>
    inputs.slice(attrs["count"] as number).map((y, i) => oracle(types[i] as TensorType, y.data)),
  decompose: (inputs, attrs) => inputs.slice(attrs["count"] as number),
  gradient: (context) => {
    const { node, inputs, outputs, cotangents } = context;
    const count = node.attrs["count"] as number;
    const rule = node.attrs["rule"] as CustomRule;
    const given = rule(cotangents, inputs.slice(0, count), outputs);
    return [...given, ...outputs.map(() => undefined)];
  },
  lower: { kind: "decompose" },
  samples: ["normal", "empty", "size-1", "odd"].map((name, i) => ({
    name,
    inputs: [0, 1].map(() => ({ shape: [[4, 8], [0], [1], [7, 13]][i] as number[], dtype: "float32" as const })),
    attrs: { count: 1, rule: ((dys) => dys) satisfies CustomRule },
    noGradientCheck: "its gradient is whatever the user's rule says",
  })),
});

/** Cotangents of the outputs (undefined = zero) to cotangents of the inputs. */
export type CustomRule = (
  cotangents: readonly (Tensor | undefined)[],
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
) => readonly (Tensor | undefined)[];

/** x, treated as a constant by `grad`. */
export function stopGradient(x: Tensor): Tensor {
  return apply1(stopGradientOp, [x]);
}

/**
 * Wraps a function of tensors so that `grad` uses `rule` instead of differentiating it. Gradients reach only the
 * arguments, not tensors that the function closes over.
 */
export function customGradient(
  fn: (...inputs: Tensor[]) => readonly Tensor[],
  rule: CustomRule,
): (...inputs: Tensor[]) => Tensor[] {
  return (...inputs) => apply(customGradientOp, [...inputs, ...fn(...inputs)], { count: inputs.length, rule });
}
