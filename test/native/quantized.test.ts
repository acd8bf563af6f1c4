import assert from "node:assert/strict";
import { decodeFloat64 } from "../../src/engine/ir/convert.ts";
import { NdArray } from "../../src/engine/ir/nd-array.ts";
import { packingOf, type QuantizedFormat, quantizedFormats, unpackWeight } from "../../src/engine/quantize/layout.ts";
import { type QuantizedWeight, quantizeWeight } from "../../src/engine/quantize/quantize.ts";
import { type Call, kernelTest, noise, sameBits } from "./run-kernel.ts";

function weightOf(format: QuantizedFormat, outSize: number, inSize: number, groupSize = 64): QuantizedWeight {
  const values = noise(outSize * inSize, outSize + inSize, 0.1);
  return quantizeWeight(NdArray.float32([outSize, inSize], values), { format, groupSize });
}

function ints({ format, groupSize, outSize, inSize }: QuantizedWeight): number[] {
  return [quantizedFormats.indexOf(format), groupSize, outSize, inSize];
}

/** x[rows, in] that bfloat16 holds exactly. */
function exactRows(rows: number, inSize: number): Float32Array {
  return noise(rows * inSize, 7).map((x) => Math.round(x * 64) / 64);
}

function product(weight: QuantizedWeight, x: Float32Array, rows: number): Call {
  return {
    kernel: "quantized_matmul",
    inputs: [
      { dtype: "float32", shape: [rows, weight.inSize], data: x },
      { dtype: "int32", shape: weight.words.shape, data: weight.words.data },
    ],
    outputs: [{ dtype: "float32", shape: [rows, weight.outSize] }],
    ints: ints(weight),
  };
}

const shapes = [
  [1, 64, 128],
  [1, 100, 320],
  [2, 33, 64],
  [3, 96, 192],
  [4, 31, 70],
  [5, 64, 128],
  [15, 40, 256],
  [29, 70, 64],
] as const;

for (const format of quantizedFormats) {
  kernelTest(`quantized_matmul of ${format} is the exact product but for float32 sums`, async (run) => {
    for (const [rows, outSize, inSize] of shapes) {
      const weight = weightOf(format, outSize, inSize);
      const x = exactRows(rows, inSize);
      const [y] = await run(product(weight, x, rows));
      const w = unpackWeight(weight.words.data, weight);
      y?.forEach((value, i) => {
        const [m, n] = [Math.floor(i / outSize), i % outSize];
        let [sum, scale] = [0, 0];
        for (let k = 0; k < inSize; k++) {
          const term = (x[m * inSize + k] as number) * (w[n * inSize + k] as number);
          sum += term;
          scale += Math.abs(term);
        }
        assert.ok(
          Math.abs(value - sum) <= 1e-6 * scale,
          `[${rows},${inSize}] x ${outSize}, ${i}: ${value}, not ${sum}`,
        );
      });
    }
  });

  kernelTest(`quantized_matmul of ${format}: a row has the same bits alone and among others`, async (run) => {
    const weight = weightOf(format, 77, 192);
    const rows = 37;
    const x = noise(rows * 192, 3);
    const [all] = await run(product(weight, x, rows));
    for (const count of [1, 2, 3, 4, 6, 16]) {
      const [some] = await run(product(weight, x.subarray(2 * 192, (2 + count) * 192), count));
      assert.ok(sameBits(some as Float32Array, (all as Float32Array).slice(2 * 77, (2 + count) * 77)), `${count} rows`);
    }
  });

  kernelTest(`dequantize of ${format} is code times scale`, async (run) => {
    for (const [outSize, inSize, groupSize] of [
      [64, 128, 64],
      [33, 77, 32],
      [5, 300, 128],
      [300, 64, 64],
    ] as const) {
      const weight = weightOf(format, outSize, inSize, groupSize);
      const expected = unpackWeight(weight.words.data, weight);
      for (const dtype of ["float32", "bfloat16"] as const) {
        const [y] = await run({
          kernel: "dequantize",
          inputs: [{ dtype: "int32", shape: weight.words.shape, data: weight.words.data }],
          outputs: [{ dtype, shape: [outSize, inSize] }],
          ints: ints(weight),
        });
        const limit = dtype === "float32" ? 2 ** -23 : 2 ** -8;
        decodeFloat64(dtype, y as Float32Array).forEach((value, i) => {
          const e = expected[i] as number;
          assert.ok(Math.abs(value - e) <= limit * Math.abs(e), `${dtype}, ${i}: ${value}, not ${e}`);
        });
      }
    }
  });
}

kernelTest("quantized_matmul rounds x to bfloat16", async (run) => {
  const weight = weightOf("int8", 32, 64);
  const x = noise(64, 5);
  const rounded = x.map((v) => {
    const bits = new Uint32Array(Float32Array.of(v).buffer);
    const b = bits[0] as number;
    bits[0] = (b + 0x7fff + ((b >>> 16) & 1)) & 0xffff0000;
    return new Float32Array(bits.buffer)[0] as number;
  });
  const [a] = await run(product(weight, x, 1));
  const [b] = await run(product(weight, rounded, 1));
  assert.ok(sameBits(a as Float32Array, b as Float32Array));
});

kernelTest("quantized_matmul refuses words that do not fit", async (run) => {
  const weight = weightOf("int4", 64, 64);
  const call = product(weight, exactRows(1, 64), 1);
  const wrong = { ...call, ints: [1, 128, 64, 128] };
  await assert.rejects(run(wrong), /quantized_matmul: (the packed words do not fit|expected x)/);
  assert.equal(packingOf(weight).words, weight.words.size);
});
