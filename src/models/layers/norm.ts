import { layerNorm as layerNormOp, rmsNorm as rmsNormOp, type Tensor } from "../../engine/index.ts";
import { float32 } from "./float32.ts";
import { callModule, type Module, requiredParameter } from "./module.ts";

/** x[...,D] -> same shape: zero mean and unit variance per row, then `weight[D]` and `bias[D]` (Ba et al. 2016). */
export function layerNorm(x: Tensor, p: Module, { eps }: { eps: number }): Tensor {
  const weight = float32(requiredParameter(p, "weight"));
  const bias = float32(requiredParameter(p, "bias"));
  return callModule(p, x, (x) => layerNormOp(x, weight, bias, { eps }));
}

/** x[...,D] -> same shape: unit root mean square per row, then `weight[D]` (Zhang and Sennrich 2019). */
export function rmsNorm(x: Tensor, p: Module, { eps }: { eps: number }): Tensor {
  const weight = float32(requiredParameter(p, "weight"));
  return callModule(p, x, (x) => rmsNormOp(x, weight, { eps }));
}
