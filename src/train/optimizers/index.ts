import "./adamw.ts";

export {
  createOptimizer,
  defineOptimizer,
  type Optimizer,
  type OptimizerDefinition,
  optimizerNames,
  type UpdateContext,
} from "./optimizer.ts";
