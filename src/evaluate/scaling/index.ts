export type { Interval } from "./interval.ts";
export {
  fitIsoFlops,
  type IsoFlopCurve,
  type IsoFlopFit,
  leastSquares,
  type Parabola,
  parabolaLoss,
} from "./iso-flop.ts";
export {
  fitScalingLaw,
  type LawCoefficients,
  lawLoss,
  optimalSize,
  type Prediction,
  predictLoss,
  type ScalingLaw,
  type ScalingPoint,
} from "./law.ts";
