import "./causal-lm.ts";
import "./masked-lm.ts";
import "./span-corruption.ts";

export { objectiveOf } from "./head-objective.ts";
export {
  definePretraining,
  type PreparedObjective,
  type PretrainingObjective,
  type PretrainingOptions,
  pretrainingObjective,
  pretrainingObjectives,
} from "./pretraining.ts";
