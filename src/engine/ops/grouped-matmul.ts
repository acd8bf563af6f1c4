import { defineOp, type OpDef, type OpSample, type SampleInput } from "../ir/op.ts";
import { formatShape } from "../ir/shape.ts";
import { type Attrs, apply, apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { add, sub } from "./arithmetic.ts";
import { cast } from "./cast.ts";
import { less, lessEqual, logicalAnd } from "./compare.ts";
import { cumsum } from "./cumsum.ts";
import { matmul, type ProductOperands } from "./matmul.ts";
import { expandDims } from "./reshape.ts";
import { select } from "./select.ts";
import { slice } from "./slice.ts";
import { iota } from "./source.ts";
import { at, expectDType, expectFloating, expectRank, expectShape, fail } from "./support.ts";
import { zeros } from "./zeros.ts";

/** More matrices than a mixture has experts: inputs of an op are named by number. */
const mostGroups = 1024;
const matrixSlots = Array.from({ length: mostGroups }, (_, i) => i + 2);

function operandsOf(attrs: Attrs): { operands?: ProductOperands } {
  return attrs["operands"] === undefined ? {} : { operands: attrs["operands"] as ProductOperands };
}

/** bool[N,1] of each group: which of the rows are its own. */
function masks(sizes: Tensor, rows: number): Tensor[] {
  const counts = cast(sizes, "float32");
  const ends = cumsum(counts, { axis: 0 });
  const starts = sub(ends, counts);
  const row = iota([rows], { axis: 0, dtype: "float32" });
  return Array.from({ length: sizes.shape[0] as number }, (_, e) => {
    const of = (t: Tensor): Tensor => slice(t, { starts: [e], limits: [e + 1] });
    return expandDims(logicalAnd(lessEqual(of(starts), row), less(row, of(ends))), 1);
  });
}

function checkSizes(sizes: TensorType, groups: number, op: string): void {
  expectDType(sizes, "int32", op, "sizes");
  expectShape(sizes, [groups], op, "sizes");
}

function sample(
  name: string,
  [N, K, F]: readonly [number, number, number],
  sizes: readonly number[],
  attrs: Attrs = {},
): { grouped: OpSample; outer: OpSample } {
  const more =
    attrs["operands"] === undefined ? {} : { noGradientCheck: "a rounded operand is piecewise constant" as const };
  const counted: SampleInput = { shape: [sizes.length], dtype: "int32", values: sizes };
  const f32 = (shape: number[]): SampleInput => ({ shape, dtype: "float32" });
  const matrix = f32(attrs["transposeB"] === true ? [F, K] : [K, F]);
  return {
    grouped: {
      name,
      inputs: [f32([N, K]), counted, ...sizes.map(() => matrix)],
      attrs: { transposeB: false, ...attrs },
      tolerance: 1e-4,
      ...more,
    },
    outer: {
      name,
      inputs: [f32([N, K]), f32([N, F]), counted],
      attrs: { ...operandsOf(attrs) },
      tolerance: 1e-4,
      ...more,
    },
  };
}

const samples = [
  sample("normal", [6, 8, 4], [2, 3, 1]),
  sample("odd, transposed, a group without rows", [7, 13, 5], [4, 0, 3], { transposeB: true }),
  sample("size-1", [1, 1, 1], [1], { transposeB: true }),
  sample("larger", [150, 37, 129], [5, 80, 1, 64, 0]),
  sample("operands rounded", [40, 33, 47], [11, 29], { operands: "bfloat16" }),
  sample("empty", [0, 3, 4], [0, 0]),
];

/**
 * (x[N,K], sizes int32[E], E matrices [K,F], or [F,K] with transposeB) -> [N,F] float32. attrs: {transposeB, operands?}.
 * Sums of a row depend on neither its group nor its place.
 */
export const groupedMatmulOp: OpDef = defineOp({
  name: "groupedMatmul",
  infer: (inputs, attrs) => {
    const op = "groupedMatmul";
    const [x, sizes] = [at(inputs, 0, op), at(inputs, 1, op)];
    const matrices = inputs.slice(2);
    if (matrices.length === 0 || matrices.length > mostGroups) {
      fail(op, `1 to ${mostGroups} matrices`, `${matrices.length}`, "pass one of each group");
    }
    expectFloating(x, op, "x");
    expectRank(x, 2, op, "x[N,K]");
    checkSizes(sizes, matrices.length, op);
    const [K, F] = attrs["transposeB"] === true ? [1, 0] : [0, 1];
    const first = at(matrices, 0, op);
    for (const matrix of matrices) {
      expectFloating(matrix, op, "a matrix");
      expectShape(matrix, first.shape, op, "a matrix");
    }
    if (first.shape.length !== 2 || first.shape[K] !== x.shape[1]) {
      fail(
        op,
        "matrices that fit x[N,K]",
        `${formatShape(first.shape)} for ${formatShape(x.shape)}`,
        "check transposeB",
      );
    }
    return [{ shape: [x.shape[0] as number, first.shape[F] as number], dtype: "float32" }];
  },
  decompose: (inputs, attrs) => {
    const [x, sizes, ...matrices] = inputs as [Tensor, Tensor, ...Tensor[]];
    const own = masks(sizes, x.shape[0] as number);
    const options = { transposeB: attrs["transposeB"] === true, ...operandsOf(attrs) };
    const parts = matrices.map((matrix, e) => select(own[e] as Tensor, matmul(x, matrix, options), 0));
    return [parts.reduce((a, b) => add(a, b))];
  },
  gradient: ({ node, inputs, cotangents: [dy] }) => {
    if (dy === undefined) return inputs.map(() => undefined);
    const [x, sizes, ...matrices] = inputs as [Tensor, Tensor, ...Tensor[]];
    const isTransposed = node.attrs["transposeB"] === true;
    const dx = apply1(groupedMatmulOp, [dy, sizes, ...matrices], { ...node.attrs, transposeB: !isTransposed });
    const pair = isTransposed ? [dy, x] : [x, dy];
    return [dx, undefined, ...apply(groupedOuterOp, [...pair, sizes], operandsOf(node.attrs))];
  },
  lower: {
    kind: "kernel",
    kernel: "grouped_matmul",
    ints: ({ attrs }) => [attrs["operands"] === "bfloat16" ? 1 : 0, attrs["transposeB"] === true ? 1 : 0],
    narrowInputs: [0, ...matrixSlots],
  },
  operands: [0, ...matrixSlots],
  samples: samples.map(({ grouped }) => grouped),
});

/** (a[N,P], b[N,Q], sizes int32[E]) -> E matrices [P,Q]: aᵀ b over the rows of each group. attrs: {operands?}. */
export const groupedOuterOp: OpDef = defineOp({
  name: "groupedOuter",
  infer: (inputs) => {
    const op = "groupedOuter";
    const [a, b, sizes] = [at(inputs, 0, op), at(inputs, 1, op), at(inputs, 2, op)];
    expectFloating(a, op, "a");
    expectFloating(b, op, "b");
    expectRank(a, 2, op, "a[N,P]");
    expectRank(b, 2, op, "b[N,Q]");
    if (a.shape[0] !== b.shape[0]) {
      fail(
        op,
        "a[N,P] and b[N,Q]",
        `${formatShape(a.shape)} and ${formatShape(b.shape)}`,
        "pass the same rows of both",
      );
    }
    expectRank(sizes, 1, op, "sizes[E]");
    checkSizes(sizes, sizes.shape[0] as number, op);
    const shape = [a.shape[1] as number, b.shape[1] as number];
    return Array.from({ length: sizes.shape[0] as number }, () => ({ shape, dtype: "float32" as const }));
  },
  decompose: (inputs, attrs) => {
    const [a, b, sizes] = inputs as [Tensor, Tensor, Tensor];
    const options = { transposeA: true, ...operandsOf(attrs) };
    return masks(sizes, a.shape[0] as number).map((own) => matmul(select(own, a, 0), b, options));
  },
  gradient: ({ node, inputs, outputs, cotangents }) => {
    const [a, b, sizes] = inputs as [Tensor, Tensor, Tensor];
    const matrices = cotangents.map((d, e) => d ?? zeros((outputs[e] as Tensor).shape));
    const attrs = operandsOf(node.attrs);
    return [
      apply1(groupedMatmulOp, [b, sizes, ...matrices], { transposeB: true, ...attrs }),
      apply1(groupedMatmulOp, [a, sizes, ...matrices], { transposeB: false, ...attrs }),
      undefined,
    ];
  },
  lower: {
    kind: "kernel",
    kernel: "grouped_outer",
    ints: ({ attrs }) => [attrs["operands"] === "bfloat16" ? 1 : 0],
    narrowInputs: [0, 1],
  },
  operands: [0, 1],
  samples: samples.map(({ outer }) => outer),
});

/**
 * Rows in groups, each times a matrix of its own: x[N,K], of which the first sizes[0] rows (int32[E]) belong to the first matrix,
 * the next sizes[1] to the second and so on, and E matrices [K,F], or [F,K] with `transposeB` -> [N,F] float32. Throws when it
 * runs if the sizes do not sum to N. The cost is that of one product of N rows, however they are shared out.
 */
export function groupedMatmul(
  x: Tensor,
  sizes: Tensor,
  matrices: readonly Tensor[],
  { transposeB = false }: { transposeB?: boolean } = {},
): Tensor {
  return apply1(groupedMatmulOp, [x, sizes, ...matrices], { transposeB });
}
