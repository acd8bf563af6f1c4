import { cast, isFloating, type Tensor } from "../../engine/index.ts";

/** Parameters stored in bfloat16 or float16 take part in float32: they are widened where they are read. */
export function float32(x: Tensor): Tensor {
  return isFloating(x.dtype) && x.dtype !== "float32" ? cast(x, "float32") : x;
}
