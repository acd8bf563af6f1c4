import { defineOp, type OpDef, type OpSample, type Oracle, type SampleInput } from "../ir/op.ts";
import type { Shape } from "../ir/shape.ts";
import { type Attrs, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { foldHostKey, type PhiloxKey, philoxWords } from "../random.ts";
import { mul, sub } from "./arithmetic.ts";
import { type TensorLike, toTensor } from "./source.ts";
import { at, expectDType, expectShape, expectSizes, intsOf, oracle } from "./support.ts";
import { cos, log, sqrt } from "./unary.ts";

const key: SampleInput = { shape: [2], dtype: "int32", values: [123456789, -987654321] };
const noFloatInputs = { noGradient: "it depends on a key, not on numbers that vary smoothly" } as const;

function checkKey(inputs: readonly TensorType[], op: string): void {
  expectDType(at(inputs, 0, op), "int32", op, "a key");
  expectShape(at(inputs, 0, op), [2], op, "a key");
}

const keyOf = (value: Oracle): PhiloxKey => [value.data[0] as number, value.data[1] as number];

const shapes: Record<string, Shape> = {
  normal: [4, 8],
  empty: [0],
  "size-1": [1],
  odd: [7, 13],
  larger: [37, 129],
};
const samples: OpSample[] = Object.entries(shapes).map(([name, shape], stream) => ({
  name,
  inputs: [key],
  attrs: { shape, stream },
  tolerance: 0,
}));

function generator(name: string, kernel: string, dtype: "int32" | "float32", convert: (word: number) => number): OpDef {
  return defineOp({
    name,
    infer: (inputs, attrs) => {
      checkKey(inputs, name);
      return [{ shape: expectSizes(intsOf(attrs["shape"]), name), dtype }];
    },
    evaluate: ([k], attrs, [type]) => {
      const out = oracle(type as TensorType);
      const words = philoxWords(keyOf(k as Oracle), attrs["stream"] as number, out.data.length);
      for (let i = 0; i < words.length; i++) out.data[i] = convert(words[i] as number);
      return [out];
    },
    gradient: noFloatInputs,
    lower: { kind: "kernel", kernel, ints: (node) => [node.attrs["stream"] as number] },
    samples,
  });
}

/** attrs: {shape, stream}. */
export const randomBitsOp = generator("randomBits", "random_bits", "int32", (word) => word | 0);
/** attrs: {shape, stream}. */
export const randomUniformOp = generator(
  "randomUniform",
  "random_uniform",
  "float32",
  (word) => (word >>> 8) * 2 ** -24,
);

/** (key, n int32[]) -> another key. */
export const foldKeyOp = defineOp({
  name: "foldKey",
  infer: (inputs) => {
    checkKey(inputs, "foldKey");
    expectDType(at(inputs, 1, "foldKey"), "int32", "foldKey", "n");
    expectShape(at(inputs, 1, "foldKey"), [], "foldKey", "n");
    return [{ shape: [2], dtype: "int32" }];
  },
  evaluate: ([k, n], _, [type]) => [
    oracle(type as TensorType, Float64Array.from(foldHostKey(keyOf(k as Oracle), (n as Oracle).data[0] as number))),
  ],
  gradient: noFloatInputs,
  lower: { kind: "kernel", kernel: "fold_key" },
  samples: [0, 1, -1].map((n) => ({
    name: `fold ${n}`,
    inputs: [key, { shape: [], dtype: "int32", values: [n] }],
    tolerance: 0,
  })),
});

/** Which sequence of a key to read: different streams of one key are independent. */
export interface StreamOptions {
  readonly stream: number;
}

const attrsOf = (shape: Shape, { stream }: StreamOptions): Attrs => ({ shape, stream });

/** Random 32-bit words as int32, Philox 4x32-10; the same on every backend. key int32[2]. */
export function randomBits(key: Tensor, shape: Shape, options: StreamOptions): Tensor {
  return apply1(randomBitsOp, [key], attrsOf(shape, options));
}

/** Uniform float32 in [0, 1), multiples of 2^-24. key int32[2]. */
export function randomUniform(key: Tensor, shape: Shape, options: StreamOptions): Tensor {
  return apply1(randomUniformOp, [key], attrsOf(shape, options));
}

/** Standard normal float32 (Box & Muller 1958) from two uniform sequences of the key. */
export function randomNormal(key: Tensor, shape: Shape, options: StreamOptions): Tensor {
  const radius = sqrt(mul(-2, log(sub(1, randomUniform(key, shape, options)))));
  const turn = randomUniform(foldKey(key, -1), shape, options);
  return mul(radius, cos(mul(2 * Math.PI, turn)));
}

/** A key of its own for each integer n (a step, a layer). key int32[2] -> int32[2]. */
export function foldKey(key: Tensor, n: TensorLike): Tensor {
  return apply1(foldKeyOp, [key, toTensor(n, "int32")]);
}
