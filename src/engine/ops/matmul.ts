import { bfloat16ToNumber, numberToBfloat16 } from "../ir/convert.ts";
import { defineOp, type OpSample, type Oracle, type SampleInput } from "../ir/op.ts";
import { broadcastShapes, formatShape, type Shape, sameShape, sizeOf } from "../ir/shape.ts";
import { type Attrs, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { reshape } from "./reshape.ts";
import { broadcastTo } from "./sum.ts";
import { at, expectFloating, fail, oracle } from "./support.ts";
import { swapLastAxes } from "./transpose.ts";

function sample(name: string, a: Shape, b: Shape, more: Partial<SampleInput> = {}): OpSample {
  return {
    name,
    inputs: [
      { shape: a, dtype: "float32", ...more },
      { shape: b, dtype: "float32", ...more },
    ],
    tolerance: 1e-4,
  };
}

function roundedSample(name: string, a: Shape, b: Shape, more: Partial<SampleInput> = {}): OpSample {
  const noGradientCheck = "a rounded operand is piecewise constant";
  return { ...sample(name, a, b, more), attrs: { operands: "bfloat16" }, noGradientCheck };
}

/** How a product reads its operands: as they are, or rounded to bfloat16. Sums are float32 either way. */
export type ProductOperands = "float32" | "bfloat16";

function operandValues(value: Oracle, attrs: Attrs): Float64Array {
  return attrs["operands"] === "bfloat16" ? value.data.map((x) => bfloat16ToNumber(numberToBfloat16(x))) : value.data;
}

/**
 * a[..., M, K] times b[..., K, N] -> float32[..., M, N]; batch axes equal. attrs: {operands?: {@link ProductOperands}}. The
 * gradient's products read their operands the same way.
 */
export const matmulOp = defineOp({
  name: "matmul",
  infer: (inputs) => {
    const a = at(inputs, 0, "matmul");
    const b = at(inputs, 1, "matmul");
    expectFloating(a, "matmul");
    expectFloating(b, "matmul");
    const rank = a.shape.length;
    const fits = rank >= 2 && b.shape.length === rank && a.shape[rank - 1] === b.shape[rank - 2];
    if (!fits || !sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2))) {
      fail(
        "matmul",
        "a[..., M, K] and b[..., K, N] of equal K and batch axes",
        `${formatShape(a.shape)} and ${formatShape(b.shape)}`,
        "check which operand needs transposeA or transposeB",
      );
    }
    return [{ shape: [...a.shape.slice(0, -1), b.shape[rank - 1] as number], dtype: "float32" }];
  },
  evaluate: ([a, b], attrs, [type]) => {
    const out = oracle(type as TensorType);
    const [M, N] = out.shape.slice(-2) as [number, number];
    const K = (a as Oracle).shape.at(-1) as number;
    const batches = sizeOf(out.shape.slice(0, -2));
    const ad = operandValues(a as Oracle, attrs);
    const bd = operandValues(b as Oracle, attrs);
    for (let batch = 0; batch < batches; batch++) {
      for (let m = 0; m < M; m++) {
        const row = (batch * M + m) * N;
        for (let k = 0; k < K; k++) {
          const x = ad[(batch * M + m) * K + k] as number;
          const from = (batch * K + k) * N;
          for (let n = 0; n < N; n++) out.data[row + n] = (out.data[row + n] as number) + x * (bd[from + n] as number);
        }
      }
    }
    return [out];
  },
  gradient: ({ node, inputs: [a, b], cotangents: [dy], needed }) => {
    if (dy === undefined) return [undefined, undefined];
    return [
      needed[0] ? apply1(matmulOp, [dy, swapLastAxes(b as Tensor)], node.attrs) : undefined,
      needed[1] ? apply1(matmulOp, [swapLastAxes(a as Tensor), dy], node.attrs) : undefined,
    ];
  },
  lower: {
    kind: "kernel",
    kernel: "matmul",
    ints: ({ attrs }) => [attrs["operands"] === "bfloat16" ? 1 : 0],
    strided: [0, 1],
    narrowInputs: [0, 1],
    narrowOutputs: [0],
  },
  operands: [0, 1],
  samples: [
    sample("normal", [4, 8], [8, 16]),
    sample("odd", [7, 13], [13, 5]),
    sample("row times matrix", [1, 33], [33, 65]),
    sample("matrix times column", [33, 65], [65, 1]),
    sample("outer product", [9, 1], [1, 17]),
    sample("batched", [3, 5, 7], [3, 7, 4]),
    sample("two batch axes", [2, 3, 4, 5], [2, 3, 5, 6]),
    sample("larger", [70, 129], [129, 67]),
    sample("long sum", [3, 1001], [1001, 3], { low: -1, high: 1 }),
    sample("bfloat16", [7, 33], [33, 9], { dtype: "bfloat16" }),
    sample("float16", [7, 33], [33, 9], { dtype: "float16" }),
    roundedSample("operands rounded", [7, 33], [33, 9]),
    roundedSample("operands rounded, one row", [1, 65], [65, 40]),
    roundedSample("operands rounded, batched", [3, 5, 7], [3, 7, 4]),
    roundedSample("operands rounded, float16", [20, 33], [33, 47], { dtype: "float16" }),
    roundedSample("operands rounded, bfloat16", [20, 90], [90, 47], { dtype: "bfloat16" }),
    sample("empty sum", [3, 0], [0, 4]),
    sample("empty", [0, 3], [3, 4]),
    sample("size-1", [1, 1], [1, 1]),
  ],
});

export interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** "bfloat16": both operands are rounded to bfloat16 (nearest even) whatever they are stored as. Default "float32". */
  readonly operands?: ProductOperands;
}

/**
 * Matrix product a[..., M, K] x b[..., K, N] -> float32[..., M, N], accumulated in float32; batch axes broadcast. With
 * `transposeA` / `transposeB` the operand is given as [..., K, M] / [..., N, K]; nothing is moved.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  if (a.rank < 2 || b.rank < 2) {
    fail(
      "matmul",
      "operands with at least two axes",
      `${formatShape(a.shape)} and ${formatShape(b.shape)}`,
      "add an axis with expandDims",
    );
  }
  const left = options.transposeA === true ? swapLastAxes(a) : a;
  const right = options.transposeB === true ? swapLastAxes(b) : b;
  const [M, K] = left.shape.slice(-2) as [number, number];
  const [K2, N] = right.shape.slice(-2) as [number, number];
  if (K !== K2) {
    fail(
      "matmul",
      `equal inner sizes`,
      `${formatShape(left.shape)} and ${formatShape(right.shape)} (${K} against ${K2}, after transposing)`,
      "check which operand needs transposeA or transposeB",
    );
  }
  const attrs = options.operands === undefined ? {} : { operands: options.operands };
  const lead = left.shape.slice(0, -2);
  if (right.rank === 2 && left.rank > 2 && options.transposeA !== true) {
    // One weight for every row of the batch: a single tall product, also for its gradient.
    const rows = sizeOf(lead) * M;
    return reshape(apply1(matmulOp, [reshape(left, [rows, K]), right], attrs), [...lead, M, N]);
  }
  const batch = broadcastShapes(lead, right.shape.slice(0, -2), "matmul");
  return apply1(matmulOp, [broadcastTo(left, [...batch, M, K]), broadcastTo(right, [...batch, K, N])], attrs);
}
