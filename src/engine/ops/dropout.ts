import { defineOp, type OpDef } from "../ir/op.ts";
import { apply1, type Tensor } from "../ir/tensor.ts";
import { mul } from "./arithmetic.ts";
import { greaterEqual } from "./compare.ts";
import { randomUniform, type StreamOptions } from "./random.ts";
import { select } from "./select.ts";
import { at, expectDType, expectFloating, expectShape, fail } from "./support.ts";

/** (x, key) -> x with elements zeroed at random. attrs: {rate, stream}. */
export const dropoutOp: OpDef = defineOp({
  name: "dropout",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "dropout");
    expectFloating(x, "dropout");
    expectDType(at(inputs, 1, "dropout"), "int32", "dropout", "a key");
    expectShape(at(inputs, 1, "dropout"), [2], "dropout", "a key");
    const rate = attrs["rate"] as number;
    if (!(rate >= 0 && rate < 1)) fail("dropout", "a rate in [0, 1)", `${rate}`, "use e.g. 0.1");
    return [x];
  },
  decompose: (inputs, attrs) => {
    const [x, key] = inputs as [Tensor, Tensor];
    const rate = attrs["rate"] as number;
    const kept = greaterEqual(randomUniform(key, x.shape, { stream: attrs["stream"] as number }), rate);
    return [select(kept, mul(x, 1 / (1 - rate)), 0)];
  },
  // The same key and stream give the same mask, so nothing is stored for the backward pass.
  gradient: ({ node, inputs, cotangents: [dy] }) => [
    dy === undefined ? undefined : apply1(dropoutOp, [dy, inputs[1] as Tensor], node.attrs),
    undefined,
  ],
  lower: { kind: "decompose" },
  samples: Object.entries({ normal: [4, 8], odd: [7, 13], empty: [0, 3], "size-1": [1], larger: [37, 129] }).map(
    ([name, shape]) => ({
      name,
      inputs: [
        { shape, dtype: "float32" },
        { shape: [2], dtype: "int32", values: [1, 2] },
      ],
      attrs: { rate: 0.25, stream: 3 },
    }),
  ),
});

/**
 * Dropout (Srivastava et al. 2014): zeroes each element with probability `rate` and scales the rest by 1/(1 - rate).
 * The same key int32[2] and stream give the same mask.
 */
export function dropout(x: Tensor, rate: number, key: Tensor, options: StreamOptions): Tensor {
  return rate === 0 ? x : apply1(dropoutOp, [x, key], { rate, stream: options.stream });
}
