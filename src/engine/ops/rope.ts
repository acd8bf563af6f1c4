import { defineOp, type OpDef, type OpSample } from "../ir/op.ts";
import type { Shape } from "../ir/shape.ts";
import { apply1, type Tensor } from "../ir/tensor.ts";
import { add, mul, neg, sub } from "./arithmetic.ts";
import { cast, toFloat32 } from "./cast.ts";
import { reshape } from "./reshape.ts";
import { concat, split } from "./split.ts";
import { sum } from "./sum.ts";
import { at, expectDType, expectRank, expectShape, fail, formatType } from "./support.ts";
import { cos, sin } from "./unary.ts";

/** The two members of each rotated pair, x[B,T,H,K] -> two of [B,T,H,K/2]. */
function pairs(x: Tensor, interleaved: boolean): [Tensor, Tensor] {
  const half = [...x.shape.slice(0, 3), (x.shape[3] as number) / 2];
  if (!interleaved) return split(x, 2, { axis: 3 }) as [Tensor, Tensor];
  return split(reshape(x, [...half, 2]), 2, { axis: 4 }).map((t) => reshape(t, half)) as [Tensor, Tensor];
}

function unpair(a: Tensor, b: Tensor, interleaved: boolean): Tensor {
  if (!interleaved) return concat([a, b], { axis: 3 });
  const both = concat(
    [a, b].map((t) => reshape(t, [...t.shape, 1])),
    { axis: 4 },
  );
  return reshape(both, [...a.shape.slice(0, 3), 2 * (a.shape[3] as number)]);
}

function sample(name: string, shape: Shape, interleaved: boolean, inverse = false): OpSample {
  return {
    name,
    inputs: [
      { shape, dtype: "float32" },
      { shape: shape.slice(0, 2), dtype: "int32" },
      { shape: [(shape[3] as number) / 2], dtype: "float32", low: 0.01, high: 1 },
    ],
    attrs: { inverse, interleaved },
  };
}

/** Rotates pairs of x by position * invFreq. attrs: {inverse, interleaved}. */
export const ropeOp: OpDef = defineOp({
  name: "rope",
  infer: (inputs) => {
    const x = at(inputs, 0, "rope");
    expectRank(x, 4, "rope", "x[B,T,H,K]");
    expectDType(x, "float32", "rope", "x");
    const width = x.shape[3] as number;
    if (width % 2 !== 0)
      fail("rope", "an even head width K", formatType(x), "choose an even number of channels per head");
    expectDType(at(inputs, 1, "rope"), "int32", "rope", "positions");
    expectShape(at(inputs, 1, "rope"), x.shape.slice(0, 2), "rope", "positions");
    expectDType(at(inputs, 2, "rope"), "float32", "rope", "invFreq");
    expectShape(at(inputs, 2, "rope"), [width / 2], "rope", "invFreq");
    return [x];
  },
  decompose: (inputs, attrs) => {
    const [x, positions, invFreq] = inputs as [Tensor, Tensor, Tensor];
    const interleaved = attrs["interleaved"] as boolean;
    const angle = mul(cast(reshape(positions, [...positions.shape, 1, 1]), "float32"), invFreq);
    const [c, s] = [cos(angle), attrs["inverse"] === true ? neg(sin(angle)) : sin(angle)];
    const [a, b] = pairs(x, interleaved);
    return [unpair(sub(mul(a, c), mul(b, s)), add(mul(b, c), mul(a, s)), interleaved)];
  },
  gradient: ({ node, inputs, outputs, cotangents: [dy], needed }) => {
    if (dy === undefined) return [undefined, undefined, undefined];
    const [, positions, invFreq] = inputs as [Tensor, Tensor, Tensor];
    const { inverse, interleaved } = node.attrs as { inverse: boolean; interleaved: boolean };
    const dx = apply1(ropeOp, [dy, positions, invFreq], { inverse: !inverse, interleaved });
    if (!needed[2]) return [dx, undefined, undefined];
    // dy/dangle is y turned by a quarter: (y1, y2) -> (-y2, y1).
    const [y1, y2] = pairs(outputs[0] as Tensor, interleaved);
    const [d1, d2] = pairs(dy, interleaved);
    const signed = cast(inverse ? neg(positions) : positions, "float32");
    const perAngle = mul(sub(mul(y1, d2), mul(y2, d1)), reshape(signed, [...positions.shape, 1, 1]));
    return [dx, undefined, sum(perAngle, { axes: [0, 1, 2] })];
  },
  lower: {
    kind: "kernel",
    kernel: "rope",
    ints: ({ attrs }) => [attrs["inverse"] === true ? 1 : 0, attrs["interleaved"] === true ? 1 : 0],
    strided: [0],
    narrowInputs: [0],
    narrowOutputs: [0],
    inPlace: [[0, 0]],
  },
  samples: [
    sample("normal", [2, 5, 3, 8], false),
    sample("interleaved", [2, 5, 3, 8], true),
    sample("inverse", [1, 3, 2, 6], false, true),
    sample("interleaved inverse", [1, 3, 2, 6], true, true),
    sample("odd", [3, 7, 1, 2], false),
    sample("empty", [0, 3, 2, 4], false),
    sample("size-1", [1, 1, 1, 2], true),
    sample("larger", [2, 9, 3, 66], false),
  ],
});

/**
 * Rotary position embedding (Su et al. 2021). x[B,T,H,K], positions int32[B,T], invFreq[K/2] -> x rotated: pair i by
 * position * invFreq[i]. Pairs are (i, i + K/2), or (2i, 2i + 1) when `interleaved`. float32.
 */
export function rope(x: Tensor, positions: Tensor, invFreq: Tensor, options: { interleaved?: boolean } = {}): Tensor {
  const attrs = { inverse: false, interleaved: options.interleaved ?? false };
  return apply1(ropeOp, [toFloat32(x), positions, toFloat32(invFreq)], attrs);
}
