import { PlinthError } from "../../base/index.ts";
import { decodeFloat64, encodeHost } from "../ir/convert.ts";
import { type DType, isFloating } from "../ir/dtype.ts";
import { NdArray } from "../ir/nd-array.ts";
import { defineOp } from "../ir/op.ts";
import { normalizeAxis, type Shape, sizeOf } from "../ir/shape.ts";
import { apply1, Tensor, type TensorType } from "../ir/tensor.ts";
import { expectSizes, fail, intsOf, oracle } from "./support.ts";

/** What op functions take where a tensor is expected: numbers become scalar constants of the other operand's dtype. */
export type TensorLike = Tensor | number;

/** An argument of a traced program. It has no value; the backend puts one in its place. attrs: {shape, dtype, name?}. */
export const inputOp = defineOp({
  name: "input",
  infer: (_, attrs) => [{ shape: intsOf(attrs["shape"]), dtype: attrs["dtype"] as DType }],
  evaluate: () => {
    throw new Error("input: has no value of its own; the backend supplies it.");
  },
  gradient: () => [],
  lower: { kind: "source" },
  samples: [],
});

/** A value known while tracing. attrs: {value: NdArray}. */
export const constantOp = defineOp({
  name: "constant",
  infer: (_, attrs) => {
    const value = attrs["value"] as NdArray;
    return [{ shape: value.shape, dtype: value.dtype }];
  },
  evaluate: (_, attrs, [type]) => {
    const value = attrs["value"] as NdArray;
    return [oracle(type as TensorType, decodeFloat64(value.dtype, value.data))];
  },
  gradient: () => [],
  lower: { kind: "source" },
  samples: [],
});

/** Index along an axis. attrs: {shape, axis, dtype: "int32" | "float32"}. */
export const iotaOp = defineOp({
  name: "iota",
  infer: (_, attrs) => {
    const dtype = attrs["dtype"] as DType;
    if (dtype !== "int32" && dtype !== "float32") {
      fail("iota", "int32 or float32", dtype, "make it int32 and cast the result");
    }
    normalizeAxis(attrs["axis"] as number, expectSizes(intsOf(attrs["shape"]), "iota").length, "iota");
    return [{ shape: intsOf(attrs["shape"]), dtype }];
  },
  evaluate: (_, attrs, [type]) => {
    const out = oracle(type as TensorType);
    const axis = attrs["axis"] as number;
    const inner = sizeOf(out.shape.slice(axis + 1));
    const length = out.shape[axis] as number;
    for (let i = 0; i < out.data.length; i++) out.data[i] = Math.floor(i / inner) % length;
    return [out];
  },
  gradient: () => [],
  lower: { kind: "kernel", kernel: "fill_iota", ints: (node) => [node.attrs["axis"] as number] },
  samples: [
    { name: "rows", inputs: [], attrs: { shape: [3, 7], axis: 0, dtype: "int32" } },
    { name: "columns", inputs: [], attrs: { shape: [5, 33], axis: 1, dtype: "float32" } },
    { name: "middle", inputs: [], attrs: { shape: [2, 5, 3], axis: 1, dtype: "int32" } },
    { name: "empty", inputs: [], attrs: { shape: [0, 3], axis: 1, dtype: "int32" } },
    { name: "size-1", inputs: [], attrs: { shape: [1], axis: 0, dtype: "int32" } },
  ],
});

/** A symbolic argument. Tracing calls this; models do not. */
export function input(type: TensorType, name?: string): Tensor {
  return apply1(inputOp, [], { shape: type.shape, dtype: type.dtype, name });
}

/** Index along `axis`, as a tensor of `shape`: `iota([2, 3], {axis: 1})` is `[[0,1,2],[0,1,2]]`. */
export function iota(shape: Shape, options: { axis: number; dtype?: "int32" | "float32" }): Tensor {
  const axis = normalizeAxis(options.axis, shape.length, "iota");
  return apply1(iotaOp, [], { shape, axis, dtype: options.dtype ?? "int32" });
}

/** A constant tensor. Default shape: one axis as long as the values; default dtype float32. */
export function constant(
  values: NdArray | readonly number[] | Float32Array | Int32Array,
  options: { shape?: Shape; dtype?: DType } = {},
): Tensor {
  if (values instanceof NdArray) return apply1(constantOp, [], { value: values });
  const shape = options.shape ?? [values.length];
  const dtype = options.dtype ?? (values instanceof Int32Array ? "int32" : "float32");
  if (values.length !== sizeOf(shape)) {
    fail("constant", `${sizeOf(shape)} values for shape [${shape.join(",")}]`, `${values.length}`, "pass that many");
  }
  return apply1(constantOp, [], { value: new NdArray(dtype, shape, encodeHost(dtype, values)) });
}

/** A scalar constant (shape []). */
export function scalar(value: number, dtype: DType = "float32"): Tensor {
  if (!isFloating(dtype) && !Number.isInteger(value)) {
    throw new PlinthError(`scalar: ${value} is not a value of ${dtype}`, "cast the tensor to float32 first");
  }
  return constant([value], { shape: [], dtype });
}

/** The tensor itself, or a scalar constant of `dtype`. */
export function toTensor(x: TensorLike, dtype: DType = "float32"): Tensor {
  return x instanceof Tensor ? x : scalar(x, dtype);
}

/** Operands as tensors: numbers take the dtype of the first operand that is a tensor. */
export function toTensors(...xs: readonly TensorLike[]): Tensor[] {
  const dtype = xs.find((x): x is Tensor => x instanceof Tensor)?.dtype ?? "float32";
  return xs.map((x) => toTensor(x, dtype));
}
