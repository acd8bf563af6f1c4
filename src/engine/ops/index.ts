export { type AdamwInputs, type AdamwOptions, adamw } from "./adamw.ts";
export { scatterAlong, takeAlong } from "./along.ts";
export { add, div, mul, neg, sub } from "./arithmetic.ts";
export { type AttentionOptions, attention } from "./attention.ts";
export { maximum, minimum, pow } from "./binary.ts";
export { cacheUpdate } from "./cache-update.ts";
export { cast } from "./cast.ts";
export {
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  logicalNot,
  logicalOr,
  notEqual,
} from "./compare.ts";
export { type ConvOptions, conv, convTranspose } from "./conv.ts";
export { crossEntropy } from "./cross-entropy.ts";
export { cumsum } from "./cumsum.ts";
export { argmin, logSigmoid, logSumExp, min, mish, oneHot, softCap, softplus } from "./derived.ts";
export { dropout } from "./dropout.ts";
export { gather, scatterAdd } from "./gather.ts";
export { gelu, silu } from "./gelu.ts";
export { sumSquares } from "./global-norm.ts";
export { groupedMatmul } from "./grouped-matmul.ts";
export { type InterpolateOptions, interpolate } from "./interpolate.ts";
export { layerNorm } from "./layer-norm.ts";
export { linearCrossEntropy } from "./linear-cross-entropy.ts";
export { type MatmulOptions, matmul, type ProductOperands } from "./matmul.ts";
export { argmax, max, mean } from "./max.ts";
export { type BatchNormInputs, batchNorm, batchStatistics, groupNorm, l2Normalize } from "./normalize.ts";
export { avgPool, globalAvgPool, maxPool, type PoolOptions } from "./pool.ts";
export { dequantize, quantizedMatmul } from "./quantized-matmul.ts";
export { foldKey, randomBits, randomNormal, randomUniform, type StreamOptions } from "./random.ts";
export { remat } from "./remat.ts";
export { expandDims, reshape, squeeze } from "./reshape.ts";
export { rmsNorm } from "./rms-norm.ts";
export { rope } from "./rope.ts";
export { select } from "./select.ts";
export { pad, slice } from "./slice.ts";
export { logSoftmax, softmax } from "./softmax.ts";
export { argsort, type Sorted, sort, topK } from "./sort.ts";
export { constant, input, iota, scalar, type TensorLike } from "./source.ts";
export { concat, split } from "./split.ts";
export { type CustomRule, customGradient, stopGradient } from "./stop-gradient.ts";
export { broadcastTo, type ReduceOptions, sum } from "./sum.ts";
export { transpose } from "./transpose.ts";
export {
  abs,
  cos,
  erf,
  exp,
  floor,
  log,
  reciprocal,
  relu,
  rsqrt,
  sigmoid,
  sign,
  sin,
  sqrt,
  square,
  tanh,
} from "./unary.ts";
export { ones, zeros } from "./zeros.ts";
