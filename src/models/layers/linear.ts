import { add, matmul, type Tensor } from "../../engine/index.ts";
import { float32 } from "./float32.ts";
import { callModule, type Module, parameter, requiredParameter } from "./module.ts";

/** x[...,in] -> [...,out] = x Wᵀ + b with `weight[out,in]` and, where present, `bias[out]`. */
export function linear(x: Tensor, p: Module): Tensor {
  return callModule(p, x, (x) => addBias(matmul(x, requiredParameter(p, "weight"), { transposeB: true }), p));
}

/** x[...,in] -> [...,out] = x W + b with GPT-2's `weight[in,out]` and `bias[out]`. */
export function conv1d(x: Tensor, p: Module): Tensor {
  return callModule(p, x, (x) => addBias(matmul(x, requiredParameter(p, "weight")), p));
}

/** y[...,out] + the module's `bias[out]`, where it has one. */
export function addBias(y: Tensor, p: Module): Tensor {
  const bias = parameter(p, "bias");
  return bias === undefined ? y : add(y, float32(bias));
}
