import { vjp, vjpOfDecomposition } from "../autodiff/vjp.ts";
import { defineOp, type OpDef, type OpSample } from "../ir/op.ts";
import { formatShape } from "../ir/shape.ts";
import { type Attrs, apply, type Tensor, type TensorType } from "../ir/tensor.ts";
import { add } from "./arithmetic.ts";
import { crossEntropyGradOp, crossEntropyOp, defaultIgnoreIndex } from "./cross-entropy.ts";
import { softCap } from "./derived.ts";
import { matmul } from "./matmul.ts";
import { slice } from "./slice.ts";
import { concat } from "./split.ts";
import { at, expectDType, expectFloating, expectRank, expectShape, fail } from "./support.ts";
import { zeros } from "./zeros.ts";

/** Rows of a block of the product's sum: gradients of the weight then have the same bits as from all rows at once. */
const blockRows = 384;
/** Logits that a chunk holds at most, 256 MiB: each chunk reads the weight and its gradient once more. */
const chunkElements = 2 ** 26;

/** Rows of logits in memory at a time. Depends on the vocabulary alone. */
function chunkRowsFor(vocabulary: number): number {
  return blockRows * Math.max(1, Math.floor(chunkElements / Math.max(1, vocabulary) / blockRows));
}

function check(inputs: readonly TensorType[], op: string): { x: TensorType; weight: TensorType; rows: number } {
  const x = at(inputs, 0, op);
  const weight = at(inputs, 1, op);
  const targets = at(inputs, 2, op);
  expectFloating(x, op);
  expectFloating(weight, op);
  expectRank(x, 2, op, "x[N,D]");
  expectRank(weight, 2, op, "weight[V,D]");
  if (x.shape[1] !== weight.shape[1]) {
    fail(op, "x[N,D] and weight[V,D]", `${formatShape(x.shape)} and ${formatShape(weight.shape)}`, "check both widths");
  }
  const rows = x.shape[0] as number;
  expectDType(targets, "int32", op, "targets");
  expectShape(targets, [rows], op, "targets");
  return { x, weight, rows };
}

/** Visits the rows chunk by chunk; `part` cuts the chunk's rows out of a tensor. */
function forChunks(rows: number, attrs: Attrs, visit: (part: (t: Tensor) => Tensor, attrs: Attrs) => void): void {
  const size = attrs["chunkRows"] as number;
  if (!(Number.isInteger(size) && size > 0)) {
    throw new Error(`linearCrossEntropy: expected chunks of one row or more, got ${size}.`);
  }
  for (let from = 0; from < rows; from += size) {
    const limit = Math.min(rows, from + size);
    const part = (t: Tensor): Tensor => slice(t, { starts: [from], limits: [limit] });
    visit(part, { ignoreIndex: attrs["ignoreIndex"], ...(from === 0 ? {} : { firstRow: from }) });
  }
}

function joined(parts: readonly Tensor[], none: () => Tensor): Tensor {
  return parts.length === 0 ? none() : concat(parts, { axis: 0 });
}

/** The logits of some rows, and what becomes of them. */
function logitsOf(rows: Tensor, weight: Tensor, { softCap: cap }: Attrs): { logits: Tensor; capped: Tensor } {
  const logits = matmul(rows, weight, { transposeB: true });
  return { logits, capped: cap === undefined ? logits : softCap(logits, cap as number) };
}

/** (x[N,D], weight[V,D], targets[N]) -> loss[N]. attrs: {ignoreIndex, chunkRows, softCap?}. */
export const linearCrossEntropyOp: OpDef = defineOp({
  name: "linearCrossEntropy",
  infer: (inputs) => [{ shape: [check(inputs, "linearCrossEntropy").rows], dtype: "float32" }],
  decompose: (inputs, attrs) => {
    const [x, weight, targets] = inputs as [Tensor, Tensor, Tensor];
    const losses: Tensor[] = [];
    forChunks(x.shape[0] as number, attrs, (part, chunk) => {
      const { capped } = logitsOf(part(x), weight, attrs);
      losses.push(apply(crossEntropyOp, [capped, part(targets)], chunk)[0] as Tensor);
    });
    return [joined(losses, () => zeros([0]))];
  },
  gradient: ({ node, inputs, cotangents: [dloss] }) => {
    if (dloss === undefined) return [undefined, undefined, undefined];
    const [, dx, dweight] = apply(linearCrossEntropyGradOp, [...inputs, dloss], node.attrs);
    return [dx, dweight, undefined];
  },
  lower: { kind: "decompose" },
  samples: samples(false),
});

/**
 * (x, weight, targets, dloss[N]) -> loss[N], dx[N,D], dweight[V,D]: loss and gradients from one pass over the logits, a
 * chunk at a time. attrs as {@link linearCrossEntropyOp}'s.
 */
export const linearCrossEntropyGradOp: OpDef = defineOp({
  name: "linearCrossEntropyGrad",
  infer: (inputs) => {
    const { x, weight, rows } = check(inputs, "linearCrossEntropyGrad");
    const dloss = at(inputs, 3, "linearCrossEntropyGrad");
    expectDType(dloss, "float32", "linearCrossEntropyGrad", "dloss");
    expectShape(dloss, [rows], "linearCrossEntropyGrad", "dloss");
    return [[rows], x.shape, weight.shape].map((shape) => ({ shape, dtype: "float32" as const }));
  },
  decompose: (inputs, attrs) => {
    const [x, weight, targets, dloss] = inputs as [Tensor, Tensor, Tensor, Tensor];
    const losses: Tensor[] = [];
    const dxs: Tensor[] = [];
    let dweight: Tensor | undefined;
    forChunks(x.shape[0] as number, attrs, (part, chunk) => {
      const rows = part(x);
      const ids = part(targets);
      const { logits, capped } = logitsOf(rows, weight, attrs);
      const [loss, lse] = apply(crossEntropyOp, [capped, ids], chunk) as [Tensor, Tensor];
      const dcapped = apply(crossEntropyGradOp, [capped, ids, lse, part(dloss)], chunk)[0] as Tensor;
      const [dlogits] = vjp([capped], [dcapped], [logits]) as [Tensor];
      losses.push(loss);
      dxs.push(matmul(dlogits, weight));
      const product = matmul(dlogits, rows, { transposeA: true });
      dweight = dweight === undefined ? product : add(dweight, product);
    });
    return [joined(losses, () => zeros([0])), joined(dxs, () => zeros(x.shape)), dweight ?? zeros(weight.shape)];
  },
  gradient: (context) => vjpOfDecomposition(linearCrossEntropyGradOp, context),
  lower: { kind: "decompose" },
  samples: samples(true),
});

function samples(withCotangent: boolean): OpSample[] {
  const sizes: readonly (readonly [
    name: string,
    rows: number,
    width: number,
    vocabulary: number,
    chunkRows: number,
  ])[] = [
    ["normal", 4, 8, 6, 4],
    ["odd, some ignored, several chunks", 7, 3, 13, 3],
    ["empty", 0, 5, 3, 2],
    ["size-1", 1, 1, 1, 1],
    ["larger", 23, 17, 301, 8],
    ["capped", 5, 4, 11, 2],
  ];
  return sizes.map(([name, rows, width, vocabulary, chunkRows]): OpSample => {
    const values = Array.from({ length: rows }, (_, i) =>
      name.includes("ignored") && i % 3 === 1 ? defaultIgnoreIndex : (i * 7) % vocabulary,
    );
    return {
      name,
      inputs: [
        { shape: [rows, width], dtype: "float32" },
        { shape: [vocabulary, width], dtype: "float32" },
        { shape: [rows], dtype: "int32", values },
        ...(withCotangent ? [{ shape: [rows], dtype: "float32" as const }] : []),
      ],
      attrs: { ignoreIndex: defaultIgnoreIndex, chunkRows, ...(name === "capped" ? { softCap: 2 } : {}) },
    };
  });
}

/**
 * x[N,D], weight[V,D], targets int32[N] -> loss[N]: -log softmax(x weightᵀ)[target], 0 where the target is `ignoreIndex`
 * (default -100); float32. The same bits as `crossEntropy(matmul(x, weight, { transposeB: true }), targets)`, but
 * never more than a chunk of rows of the logits is in memory. Where `grad` wants the gradients and the cotangent of
 * the losses does not depend on their values, they come from the same pass over the logits (after Hsu et al. 2024,
 * Liger Kernel, but exact for any cotangents per row). `softCap`: logits y become cap * tanh(y / cap) first.
 */
export function linearCrossEntropy(
  x: Tensor,
  weight: Tensor,
  targets: Tensor,
  options: { ignoreIndex?: number; softCap?: number | undefined } = {},
): Tensor {
  const { ignoreIndex = defaultIgnoreIndex, softCap } = options;
  if (softCap !== undefined && !(softCap > 0)) {
    fail("linearCrossEntropy", "a softCap above 0", `${softCap}`, "leave softCap out for none");
  }
  const chunkRows = chunkRowsFor(weight.shape[0] ?? 1);
  const attrs = { ignoreIndex, chunkRows, ...(softCap === undefined ? {} : { softCap }) };
  return apply(linearCrossEntropyOp, [x, weight, targets], attrs)[0] as Tensor;
}
