import type { DType } from "../ir/dtype.ts";
import type { Shape } from "../ir/shape.ts";
import type { Tensor } from "../ir/tensor.ts";
import { scalar } from "./source.ts";
import { broadcastTo } from "./sum.ts";

/** Zeros of a shape: one scalar seen through zero strides. */
export function zeros(shape: Shape, dtype: DType = "float32"): Tensor {
  return broadcastTo(scalar(0, dtype), shape);
}

/** Ones of a shape: one scalar seen through zero strides. */
export function ones(shape: Shape, dtype: DType = "float32"): Tensor {
  return broadcastTo(scalar(1, dtype), shape);
}
