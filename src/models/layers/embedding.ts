import { gather, type Tensor } from "../../engine/index.ts";
import { float32 } from "./float32.ts";
import { callModule, type Module, requiredParameter } from "./module.ts";

/** ids int32[...] -> float32[...,D]: rows of `weight[V,D]`. */
export function embedding(ids: Tensor, p: Module): Tensor {
  return callModule(p, ids, (ids) => float32(gather(requiredParameter(p, "weight"), ids)));
}
