import { decodeFloat64, encodeHost } from "../ir/convert.ts";
import { type DType, isFloating, isNarrow } from "../ir/dtype.ts";
import { defineOp } from "../ir/op.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { equal, logicalNot } from "./compare.ts";
import { at, fail, oracle } from "./support.ts";

/** Converts the element type. attrs: {dtype}. The oracle rounds to narrow floats too: a cast says where values are rounded. */
export const castOp = defineOp({
  name: "cast",
  infer: (inputs, attrs) => {
    const dtype = attrs["dtype"] as DType;
    if (dtype === "bool") fail("cast", "a number type", "bool", "compare instead: notEqual(x, 0)");
    return [{ shape: at(inputs, 0, "cast").shape, dtype }];
  },
  evaluate: ([x], _, [type]) => {
    const from = (x as TensorType).dtype;
    const data = (x as { data: Float64Array }).data;
    const to = (type as TensorType).dtype;
    if (to === "int32" && isFloating(from)) return [oracle(type as TensorType, data.map(Math.trunc))];
    return [oracle(type as TensorType, isNarrow(to) && from !== to ? decodeFloat64(to, encodeHost(to, data)) : data)];
  },
  gradient: ({ inputs: [x], cotangents: [dy] }) => [
    dy !== undefined && isFloating((x as Tensor).dtype) ? cast(dy, (x as Tensor).dtype) : undefined,
  ],
  lower: {
    kind: "elementwise",
    opcode: (attrs, inputs) => {
      const from = at(inputs, 0, "cast").dtype;
      const to = attrs["dtype"] as DType;
      if (to === "int32") return from === "int32" ? "identity" : "float_to_int";
      return from === "int32" ? "int_to_float" : "identity";
    },
  },
  samples: [
    {
      name: "float32 to bfloat16",
      inputs: [{ shape: [7, 13], dtype: "float32" }],
      attrs: { dtype: "bfloat16" },
      noGradientCheck: "rounding is a staircase; its gradient is taken as 1",
    },
    {
      name: "float32 to float16",
      inputs: [{ shape: [7, 13], dtype: "float32" }],
      attrs: { dtype: "float16" },
      noGradientCheck: "rounding is a staircase; its gradient is taken as 1",
    },
    {
      name: "bfloat16 to float32",
      inputs: [{ shape: [5, 33], dtype: "bfloat16" }],
      attrs: { dtype: "float32" },
      tolerance: 1e-2,
    },
    {
      name: "float16 to float32",
      inputs: [{ shape: [5, 33], dtype: "float16" }],
      attrs: { dtype: "float32" },
      tolerance: 1e-3,
    },
    { name: "int32 to float32", inputs: [{ shape: [3, 17], dtype: "int32" }], attrs: { dtype: "float32" } },
    {
      name: "float32 to int32",
      inputs: [{ shape: [3, 17], dtype: "float32", low: -50, high: 50 }],
      attrs: { dtype: "int32" },
    },
    { name: "bool to float32", inputs: [{ shape: [19], dtype: "bool" }], attrs: { dtype: "float32" } },
    { name: "bool to int32", inputs: [{ shape: [19], dtype: "bool" }], attrs: { dtype: "int32" } },
    { name: "empty", inputs: [{ shape: [0, 2], dtype: "int32" }], attrs: { dtype: "float32" } },
    { name: "size-1", inputs: [{ shape: [1], dtype: "int32" }], attrs: { dtype: "float32" } },
  ],
});

/** x as another element type: floats round to nearest even, float to int truncates, to bool means "not zero". */
export function cast(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x;
  return dtype === "bool" ? logicalNot(equal(x, 0)) : apply1(castOp, [x], { dtype });
}

/** x as float32, for kernels that read nothing narrower. */
export function toFloat32(x: Tensor): Tensor {
  return cast(x, "float32");
}
