export { type ValueAndGrad, valueAndGrad } from "./value-and-grad.ts";
export { grad, vjp } from "./vjp.ts";
