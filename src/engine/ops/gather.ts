import { PlinthError } from "../../base/index.ts";
import { defineOp, type Oracle } from "../ir/op.ts";
import { formatShape, sameShape, sizeOf } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { toFloat32 } from "./cast.ts";
import { at, expectDType, expectShape, expectSizes, fail, oracle } from "./support.ts";

function checkedId(op: string, id: number, rows: number): number {
  if (id < 0 || id >= rows) {
    throw new PlinthError(`${op}: id ${id} is outside the table of ${rows} rows`, "check the ids against the table");
  }
  return id;
}

/** table[V, D...], ids int32[...] -> [..., D...]. */
export const gatherOp = defineOp({
  name: "gather",
  infer: (inputs) => {
    const table = at(inputs, 0, "gather");
    const ids = at(inputs, 1, "gather");
    expectDType(ids, "int32", "gather", "ids");
    if (table.shape.length === 0) fail("gather", "a table with rows", "a scalar", "reshape the table to [rows, ...]");
    return [{ shape: [...ids.shape, ...table.shape.slice(1)], dtype: table.dtype }];
  },
  evaluate: ([table, ids], _, [type]) => {
    const out = oracle(type as TensorType);
    const { shape, data } = table as Oracle;
    const width = sizeOf(shape.slice(1));
    (ids as Oracle).data.forEach((id, i) => {
      const row = checkedId("gather", id, shape[0] as number) * width;
      out.data.set(data.subarray(row, row + width), i * width);
    });
    return [out];
  },
  gradient: ({ inputs: [table, ids], cotangents: [dy] }) => [
    dy === undefined ? undefined : scatterAdd(ids as Tensor, dy, { rows: (table as Tensor).shape[0] as number }),
    undefined,
  ],
  lower: { kind: "kernel", kernel: "gather" },
  samples: [
    {
      name: "normal",
      inputs: [
        { shape: [10, 8], dtype: "float32" },
        { shape: [6], dtype: "int32" },
      ],
    },
    {
      name: "scalar rows",
      inputs: [
        { shape: [10], dtype: "float32" },
        { shape: [2, 3], dtype: "int32" },
      ],
    },
    {
      name: "odd",
      inputs: [
        { shape: [11, 3, 5], dtype: "float32" },
        { shape: [3, 7], dtype: "int32" },
      ],
    },
    {
      name: "bfloat16 table",
      inputs: [
        { shape: [10, 13], dtype: "bfloat16" },
        { shape: [5], dtype: "int32" },
      ],
    },
    {
      name: "empty",
      inputs: [
        { shape: [10, 8], dtype: "float32" },
        { shape: [0, 2], dtype: "int32" },
      ],
    },
    {
      name: "size-1",
      inputs: [
        { shape: [10, 1], dtype: "float32" },
        { shape: [], dtype: "int32" },
      ],
    },
    {
      name: "larger",
      inputs: [
        { shape: [10, 129], dtype: "float32" },
        { shape: [37], dtype: "int32" },
      ],
    },
  ],
});

/** ids int32[N...], updates[N..., D...], optionally base[rows, D...] -> [rows, D...]. attrs: {rows}. */
export const scatterAddOp = defineOp({
  name: "scatterAdd",
  infer: (inputs, attrs) => {
    const ids = at(inputs, 0, "scatterAdd");
    const updates = at(inputs, 1, "scatterAdd");
    expectDType(ids, "int32", "scatterAdd", "ids");
    expectDType(updates, "float32", "scatterAdd", "updates");
    const rank = ids.shape.length;
    if (!sameShape(updates.shape.slice(0, rank), ids.shape)) {
      fail(
        "scatterAdd",
        `updates whose leading axes are the ids' ${formatShape(ids.shape)}`,
        formatShape(updates.shape),
        "give one update row per id",
      );
    }
    const shape = expectSizes([attrs["rows"] as number, ...updates.shape.slice(rank)], "scatterAdd");
    if (inputs[2] !== undefined) expectShape(inputs[2], shape, "scatterAdd", "base");
    return [{ shape, dtype: "float32" }];
  },
  evaluate: ([ids, updates, base], _, [type]) => {
    const out = oracle(type as TensorType, base?.data.slice());
    const width = sizeOf(out.shape.slice(1));
    (ids as Oracle).data.forEach((id, i) => {
      const row = checkedId("scatterAdd", id, out.shape[0] as number) * width;
      for (let j = 0; j < width; j++) {
        out.data[row + j] = (out.data[row + j] as number) + ((updates as Oracle).data[i * width + j] as number);
      }
    });
    return [out];
  },
  gradient: ({ inputs: [ids], cotangents: [dy] }) => [
    undefined,
    dy === undefined ? undefined : gather(dy, ids as Tensor),
    dy,
  ],
  lower: { kind: "kernel", kernel: "scatter_add", inPlace: [[0, 2]] },
  samples: [
    {
      name: "normal",
      inputs: [
        { shape: [6], dtype: "int32" },
        { shape: [6, 8], dtype: "float32" },
      ],
      attrs: { rows: 10 },
    },
    {
      name: "odd",
      inputs: [
        { shape: [3, 7], dtype: "int32" },
        { shape: [3, 7, 5], dtype: "float32" },
      ],
      attrs: { rows: 11 },
    },
    {
      name: "onto a base",
      inputs: [
        { shape: [6], dtype: "int32" },
        { shape: [6, 8], dtype: "float32" },
        { shape: [10, 8], dtype: "float32" },
      ],
      attrs: { rows: 10 },
    },
    {
      name: "scalars",
      inputs: [
        { shape: [7], dtype: "int32" },
        { shape: [7], dtype: "float32" },
      ],
      attrs: { rows: 10 },
    },
    {
      name: "empty",
      inputs: [
        { shape: [0], dtype: "int32" },
        { shape: [0, 3], dtype: "float32" },
      ],
      attrs: { rows: 10 },
    },
    {
      name: "size-1",
      inputs: [
        { shape: [1], dtype: "int32", values: [0] },
        { shape: [1, 1], dtype: "float32" },
      ],
      attrs: { rows: 1 },
    },
    {
      name: "larger",
      inputs: [
        { shape: [200], dtype: "int32" },
        { shape: [200, 129], dtype: "float32" },
      ],
      attrs: { rows: 10 },
    },
  ],
});

/** Rows of table[V, D...] picked by ids int32[...] -> [..., D...]: an embedding look-up. Ids outside [0, V) are an error. */
export function gather(table: Tensor, ids: Tensor): Tensor {
  return apply1(gatherOp, [table, ids]);
}

/** Sum of updates[N..., D...] per id int32[N...] -> [rows, D...], float32, added in order of position. */
export function scatterAdd(ids: Tensor, updates: Tensor, options: { rows: number }): Tensor {
  return apply1(scatterAddOp, [ids, toFloat32(updates)], { rows: options.rows });
}
