import { add, layerNorm as layerNormOp, rmsNorm as rmsNormOp, type Tensor, zeros } from "../../engine/index.ts";
import { float32 } from "./float32.ts";
import { callModule, type Module, parameter, requiredParameter } from "./module.ts";

/** x[...,D] -> same shape: zero mean and unit variance per row, then `weight[D]` and, where present, `bias[D]` (Ba et al. 2016). */
export function layerNorm(x: Tensor, p: Module, { eps }: { eps: number }): Tensor {
  const weight = float32(requiredParameter(p, "weight"));
  const stored = parameter(p, "bias");
  const bias = stored === undefined ? zeros(weight.shape) : float32(stored);
  return callModule(p, x, (x) => layerNormOp(x, weight, bias, { eps }));
}

/**
 * x[...,D] -> same shape: unit root mean square per row, then `offset` (default 0) + `weight[D]` (Zhang and Sennrich
 * 2019; Gemma's offset is 1).
 */
export function rmsNorm(x: Tensor, p: Module, { eps, offset = 0 }: { eps: number; offset?: number }): Tensor {
  const stored = float32(requiredParameter(p, "weight"));
  const weight = offset === 0 ? stored : add(stored, offset);
  return callModule(p, x, (x) => rmsNormOp(x, weight, { eps }));
}
