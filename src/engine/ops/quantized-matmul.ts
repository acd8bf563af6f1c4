import { bfloat16ToNumber, numberToBfloat16 } from "../ir/convert.ts";
import { defineOp, type OpSample, type Oracle, type SampleInput } from "../ir/op.ts";
import { formatShape, type Shape, sizeOf } from "../ir/shape.ts";
import { type Attrs, apply1, type Node, type Tensor, type TensorType } from "../ir/tensor.ts";
import {
  packingOf,
  type QuantizedFormat,
  type QuantizedLayout,
  quantizedFormats,
  unpackWeight,
  WeightWriter,
} from "../quantize/layout.ts";
import { matmul } from "./matmul.ts";
import { reshape } from "./reshape.ts";
import { at, expectDType, expectFloating, fail, oracle } from "./support.ts";

function layoutOf(attrs: Attrs): QuantizedLayout {
  return {
    format: attrs["format"] as QuantizedFormat,
    groupSize: attrs["groupSize"] as number,
    outSize: attrs["outSize"] as number,
    inSize: attrs["inSize"] as number,
  };
}

function checkWords(words: TensorType, layout: QuantizedLayout, op: string): void {
  expectDType(words, "int32", op, "packed words");
  const sizes = [layout.outSize, layout.inSize];
  if (!sizes.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    fail(op, "a weight [out,in] of sizes from 0 up", formatShape(sizes), "pass the layout that quantizeWeight gave");
  }
  const expected = packingOf(layout).words;
  if (words.shape.length === 1 && words.shape[0] === expected) return;
  const { format, outSize, inSize } = layout;
  fail(
    op,
    `[${expected}] words for ${format} weights [${outSize},${inSize}]`,
    formatShape(words.shape),
    "pass the words and the layout of the same quantizeWeight",
  );
}

function ints(node: Node): number[] {
  const { format, groupSize, outSize, inSize } = layoutOf(node.attrs);
  return [quantizedFormats.indexOf(format), groupSize, outSize, inSize];
}

/** Small numbers that look random, and scales that bfloat16 and float32 hold exactly. */
function sampleWords(layout: QuantizedLayout): number[] {
  // Runs when this module is read, when no engine must be loaded yet.
  const writer = new WeightWriter(layout, (bytes) => new ArrayBuffer(bytes));
  const { groups, bits } = packingOf(layout);
  let state = 12345;
  const next = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  for (let n = 0; n < layout.outSize; n++) {
    writer.row(
      n,
      Uint8Array.from({ length: layout.inSize }, () => next(2 ** bits)),
    );
    for (let group = 0; group < groups; group++) {
      // bfloat16 of 2^-4 ... 2^-7, for int8 of 2^-8 ... 2^-11; for nf4 the codes of the values 0 and 1.
      const exponent = (layout.format === "int8" ? 119 : 123) - next(4);
      writer.scale(n, group, layout.format === "nf4" ? (next(2) === 0 ? 127 : 255) : exponent << 7);
    }
  }
  if (layout.format === "nf4") writer.scaleBlocks(0.25, new Float32Array(outBlocks(layout)).fill(0.25));
  return Array.from(writer.words);
}

function outBlocks(layout: QuantizedLayout): number {
  return Math.ceil((layout.outSize * packingOf(layout).groups) / 256);
}

function wordsInput(layout: QuantizedLayout): SampleInput {
  return { shape: [packingOf(layout).words], dtype: "int32", values: sampleWords(layout) };
}

function sample(name: string, x: Shape, layout: QuantizedLayout, dtype: "float32" | "bfloat16" = "float32"): OpSample {
  return {
    name,
    inputs: [{ shape: x, dtype, low: -1, high: 1 }, wordsInput(layout)],
    attrs: { ...layout },
    // Operands are rounded to bfloat16.
    tolerance: 8e-3,
  };
}

function layout(format: QuantizedFormat, outSize: number, inSize: number, groupSize = 64): QuantizedLayout {
  return { format, groupSize, outSize, inSize };
}

/** The weight as a bfloat16 matrix. attrs: QuantizedLayout. */
export const dequantizeOp = defineOp({
  name: "dequantize",
  infer: (inputs, attrs) => {
    const weight = layoutOf(attrs);
    checkWords(at(inputs, 0, "dequantize"), weight, "dequantize");
    return [{ shape: [weight.outSize, weight.inSize], dtype: "bfloat16" }];
  },
  evaluate: ([words], attrs, [type]) => [
    oracle(type as TensorType, unpackWeight((words as Oracle).data, layoutOf(attrs))),
  ],
  gradient: { noGradient: "quantised weights are codes, which do not change by small steps" },
  lower: { kind: "kernel", kernel: "dequantize", ints },
  samples: [
    {
      name: "nf4",
      inputs: [wordsInput(layout("nf4", 40, 128))],
      attrs: { ...layout("nf4", 40, 128) },
      tolerance: 4e-3,
    },
    { name: "int4, odd", inputs: [wordsInput(layout("int4", 7, 77))], attrs: { ...layout("int4", 7, 77) } },
    { name: "int8", inputs: [wordsInput(layout("int8", 33, 96, 32))], attrs: { ...layout("int8", 33, 96, 32) } },
    { name: "size-1", inputs: [wordsInput(layout("int4", 1, 1, 32))], attrs: { ...layout("int4", 1, 1, 32) } },
    { name: "empty", inputs: [wordsInput(layout("int4", 0, 64))], attrs: { ...layout("int4", 0, 64) } },
  ],
});

/**
 * x[..., in] and words -> float32[..., out]. attrs: QuantizedLayout, {operands?: "bfloat16"}: the kernel rounds x in any
 * case, the attribute makes the definition say so too.
 */
export const quantizedMatmulOp = defineOp({
  name: "quantizedMatmul",
  infer: (inputs, attrs) => {
    const x = at(inputs, 0, "quantizedMatmul");
    const weight = layoutOf(attrs);
    expectFloating(x, "quantizedMatmul");
    checkWords(at(inputs, 1, "quantizedMatmul"), weight, "quantizedMatmul");
    if (x.shape.length === 0 || x.shape.at(-1) !== weight.inSize) {
      fail("quantizedMatmul", `x[..., ${weight.inSize}]`, formatShape(x.shape), "check which layer the weight is of");
    }
    return [{ shape: [...x.shape.slice(0, -1), weight.outSize], dtype: "float32" }];
  },
  evaluate: ([x, words], attrs, [type]) => {
    const out = oracle(type as TensorType);
    const { outSize, inSize } = layoutOf(attrs);
    const weight = unpackWeight((words as Oracle).data, layoutOf(attrs));
    const given = (x as Oracle).data;
    const data = attrs["operands"] === "bfloat16" ? given.map((v) => bfloat16ToNumber(numberToBfloat16(v))) : given;
    for (let i = 0; i < out.data.length; i++) {
      const row = Math.floor(i / outSize) * inSize;
      const column = (i % outSize) * inSize;
      let total = 0;
      for (let k = 0; k < inSize; k++) total += (data[row + k] as number) * (weight[column + k] as number);
      out.data[i] = total;
    }
    return [out];
  },
  // The weight is frozen; the product with its transpose runs on the weight as bfloat16.
  gradient: ({ inputs: [, words], cotangents: [dy], node }) => {
    if (dy === undefined) return [undefined, undefined];
    const { outSize, inSize } = layoutOf(node.attrs);
    const rows = sizeOf(dy.shape.slice(0, -1));
    const weight = dequantize(words as Tensor, layoutOf(node.attrs));
    const dx = matmul(reshape(dy, [rows, outSize]), weight);
    return [reshape(dx, [...dy.shape.slice(0, -1), inSize]), undefined];
  },
  operands: [0],
  lower: { kind: "kernel", kernel: "quantized_matmul", ints },
  samples: [
    sample("nf4, one row", [1, 128], layout("nf4", 96, 128)),
    sample("nf4, a batch", [2, 9, 128], layout("nf4", 33, 128)),
    sample("nf4, many scales", [3, 64], layout("nf4", 300, 64)),
    sample("int4, one row", [1, 192], layout("int4", 64, 192)),
    sample("int4, odd", [7, 77], layout("int4", 5, 77)),
    sample("int4, groups of 32", [3, 96], layout("int4", 31, 96, 32)),
    sample("int4, groups of 128", [17, 256], layout("int4", 65, 256, 128)),
    sample("int4, two rows", [2, 64], layout("int4", 128, 64)),
    sample("int4, four rows", [4, 64], layout("int4", 100, 64)),
    sample("int8, one row", [1, 96], layout("int8", 70, 96, 32)),
    sample("int8, larger", [30, 128], layout("int8", 40, 128)),
    sample("bfloat16", [5, 64], layout("int4", 32, 64), "bfloat16"),
    sample("size-1", [1], layout("int4", 1, 1, 32)),
    sample("empty", [0, 64], layout("int4", 8, 64)),
    sample("empty sum", [3, 0], layout("int4", 8, 0)),
    sample("no columns", [3, 64], layout("nf4", 0, 64)),
  ],
});

/**
 * x[..., in] times a quantised weight [out, in], transposed -> float32[..., out]: the sum over groups of
 * scale[group, out] * (the group's sum of bfloat16(x) * code), where a code stands for a NormalFloat value rounded to
 * bfloat16 or an integer; sums in float32. A row has the same bits whatever the other rows. The gradient with respect to
 * x uses the weight rounded to bfloat16; there is none for the weight, which is frozen.
 */
export function quantizedMatmul(x: Tensor, words: Tensor, layout: QuantizedLayout): Tensor {
  const { format, groupSize, outSize, inSize } = layout;
  return apply1(quantizedMatmulOp, [x, words], { format, groupSize, outSize, inSize });
}

/** The quantised weight as bfloat16[out, in]. */
export function dequantize(words: Tensor, layout: QuantizedLayout): Tensor {
  const { format, groupSize, outSize, inSize } = layout;
  return apply1(dequantizeOp, [words], { format, groupSize, outSize, inSize });
}
