import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import {
  decodeFloat32,
  decodeFloat64,
  dequantizeWeight,
  encodeHost,
  HostRandom,
  NdArray,
  type QuantizedFormat,
  quantizationError,
  quantizedFormats,
  quantizeWeight,
} from "../../src/engine/index.ts";
import { packingOf, panelRows, readScale } from "../../src/engine/quantize/layout.ts";
import { nf4Bfloat16, nf4ScaleValues, nf4Values } from "../../src/engine/quantize/nf4.ts";

function normal(shape: readonly [number, number], seed = 1): NdArray {
  const random = new HostRandom(seed);
  return NdArray.float32(
    shape,
    Float32Array.from({ length: shape[0] * shape[1] }, () => 0.02 * random.normal()),
  );
}

/** Arrays of test/golden-quantize/bitsandbytes.safetensors by name, as numbers. */
function golden(): Record<string, { shape: [number, number]; values: Float64Array; bytes: Uint8Array }> {
  const path = join(packageRoot(), "test", "golden-quantize", "bitsandbytes.safetensors");
  const file = readFileSync(path);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, start).toString());
  const dtypes = { F32: "float32", BF16: "bfloat16", I32: "int32" } as const;
  return Object.fromEntries(
    Object.entries<{ dtype: keyof typeof dtypes; shape: [number, number]; data_offsets: [number, number] }>(header).map(
      ([name, { dtype, shape, data_offsets: offsets }]) => {
        const bytes = Uint8Array.from(file.subarray(start + offsets[0], start + offsets[1]));
        const array = NdArray.on(bytes.buffer, 0, dtypes[dtype], shape);
        return [name, { shape, values: decodeFloat64(array.dtype, array.data), bytes }];
      },
    ),
  );
}

test("nf4 with double quantisation has bitsandbytes' codes and scales", () => {
  const g = golden();
  const { shape, values } = g["weight"] ?? assert.fail();
  const weight = quantizeWeight(NdArray.float32(shape, Float32Array.from(values)), { format: "nf4" });
  const { groups, panelWords, scaleWords } = packingOf(weight);
  const words = weight.words.data;
  const scaleValues = g["scale_values"]?.values ?? assert.fail();
  // Its CPU code writes -1 over the first value of the map, -0.993, before it searches.
  assert.equal(scaleValues[0], -1);
  scaleValues[0] = nf4ScaleValues[0] as number;
  scaleValues.forEach((value, i) => {
    assert.ok(Math.abs(value - (nf4ScaleValues[i] as number)) <= 1e-7 * Math.abs(value), `scale value ${i}`);
  });
  const packed = g["codes"]?.bytes ?? assert.fail();
  const maxima = g["scale_maxima"]?.values ?? assert.fail();
  const scaleCodes = g["scale_codes"]?.values ?? assert.fail();
  const offset = g["offset"]?.values[0] as number;
  let differing = 0;
  for (let n = 0; n < shape[0]; n++) {
    for (let group = 0; group < groups; group++) {
      const i = n * groups + group;
      const expected =
        (scaleValues[scaleCodes[i] as number] as number) * (maxima[Math.floor(i / 256)] as number) + offset;
      assert.ok(Math.abs(readScale(words, weight, n, group) - expected) <= 1e-6 * Math.abs(expected), `scale ${i}`);
    }
    for (let k = 0; k < shape[1]; k++) {
      // A group of zeros is all -1 times a small rest of its scale there; here it stays 0.
      const i = n * shape[1] + k;
      if (n === 3 && k < 64) continue;
      const theirs = ((packed[i >> 1] as number) >> (i % 2 === 0 ? 4 : 0)) & 15;
      const word = words[
        Math.floor(n / panelRows) * panelWords + scaleWords + Math.floor(k / 8) * panelRows + (n % panelRows)
      ] as number;
      const ours = (word >>> ((k & 1) * 16 + ((k % 8) >> 1) * 4)) & 15;
      if (ours === theirs) continue;
      differing++;
      // Only where the weight lies on the border between two values, up to the rounding of 1 / maximum.
      assert.equal(Math.abs(ours - theirs), 1);
    }
  }
  assert.ok(differing <= 2, `${differing} of ${shape[0] * shape[1]} codes differ`);
  // Their values are not rounded to bfloat16.
  const restored = g["restored"]?.values ?? assert.fail();
  const own = decodeFloat32("float32", dequantizeWeight(weight).data);
  restored.forEach((value, i) => {
    const at = Math.floor(i / shape[1]) * 5 * shape[1] + (i % shape[1]);
    assert.ok(Math.abs((own[at] as number) - value) <= 2 ** -8 * Math.abs(value) + 1e-9, `element ${at}`);
  });
});

test("the 16 values are those of the paper, and a bfloat16 away in products", () => {
  assert.equal(nf4Values[0], -1);
  assert.equal(nf4Values[7], 0);
  assert.equal(nf4Values[15], 1);
  nf4Values.forEach((value, i) => {
    assert.ok(Math.abs((nf4Bfloat16[i] as number) - value) <= 2 ** -8 * Math.abs(value));
  });
});

test("errors are those of the number of bits", () => {
  // Relative root mean squared error of a normal distribution.
  const limits: Record<QuantizedFormat, readonly [number, number]> = {
    nf4: [0.08, 0.1],
    int4: [0.09, 0.12],
    int8: [0.004, 0.007],
  };
  for (const format of quantizedFormats) {
    const weight = normal([96, 512]);
    const error = quantizationError(weight, quantizeWeight(weight, { format }));
    const [low, high] = limits[format];
    assert.ok(error.relative > low && error.relative < high, `${format}: ${error.relative}`);
    assert.ok(error.largest >= error.rms && error.largest < 0.02);
  }
  const bits = (format: QuantizedFormat): number => {
    const weight = normal([512, 512]);
    return quantizationError(weight, quantizeWeight(weight, { format })).bitsPerWeight;
  };
  assert.ok(bits("nf4") < 4.2, `${bits("nf4")}`);
  assert.equal(bits("int4"), 4.25);
  assert.equal(bits("int8"), 8.25);
});

test("smaller groups lose less; zeros, short groups and any float type are kept", () => {
  const weight = normal([40, 256]);
  const error = (groupSize: number): number =>
    quantizationError(weight, quantizeWeight(weight, { format: "int4", groupSize })).rms;
  assert.ok(error(32) < error(64) && error(64) < error(128));
  for (const format of quantizedFormats) {
    const zeros = dequantizeWeight(quantizeWeight(NdArray.zeros("float32", [3, 70]), { format }));
    assert.ok((zeros.data as Float32Array).every((x) => x === 0));
    // The largest of a group, also of the last and short one, comes back to within its scale's rounding.
    const row = Float32Array.from({ length: 70 }, (_, i) => (i === 69 ? -0.5 : 0.001 * i));
    const back = dequantizeWeight(quantizeWeight(NdArray.float32([1, 70], row), { format })).data as Float32Array;
    assert.ok(Math.abs((back[69] as number) + 0.5) < 0.01, `${format}: ${back[69]}`);
  }
  const narrow = new NdArray("bfloat16", weight.shape, encodeHost("bfloat16", decodeFloat32("float32", weight.data)));
  const wide = NdArray.float32(weight.shape, decodeFloat32("bfloat16", narrow.data));
  const options = { format: "nf4" } as const;
  assert.deepEqual(quantizeWeight(narrow, options).words.data, quantizeWeight(wide, options).words.data);
});

test("what cannot be quantised is refused", () => {
  const refused = (run: () => unknown, message: RegExp): void => {
    assert.throws(run, (error: Error) => message.test(error.message));
  };
  refused(
    () => quantizeWeight(NdArray.zeros("float32", [4]), { format: "nf4" }),
    /expected a float matrix.*float32\[4\]/,
  );
  refused(() => quantizeWeight(NdArray.zeros("int32", [4, 4]), { format: "nf4" }), /float matrix/);
  refused(() => quantizeWeight(normal([4, 64]), { format: "int4", groupSize: 48 }), /multiple of 32, got 48/);
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const weight = NdArray.float32([1, 64], new Float32Array(64).fill(1, 3, 4).fill(bad, 7, 8));
    for (const format of quantizedFormats) refused(() => quantizeWeight(weight, { format }), /not finite/);
  }
});
