import "./adamw.ts";
import "./adafactor.ts";
import "./lion.ts";
import "./muon.ts";
import "./sgd.ts";

export {
  createOptimizer,
  defineOptimizer,
  type Optimizer,
  type OptimizerDefinition,
  optimizerDefaults,
  optimizerNames,
  type ParameterInfo,
  type UpdateContext,
} from "./optimizer.ts";
