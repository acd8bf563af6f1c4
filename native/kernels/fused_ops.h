// One vector loop per opcode of the fused kernel, over blocks of 32-bit lanes (float32, or int32 in the same bytes).
#pragma once
#include <cstring>

#include "../opcodes.h"
#include "../simd_math.h"
#include "runs.h"

namespace plinth {
namespace fused_loops {

using namespace simd;

template <typename F>
inline void unary(float* to, const float* a, int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, f(load(a + i)));
  if (i < n) storePartial(to + i, f(loadPartial(a + i, static_cast<int>(n - i))), static_cast<int>(n - i));
}

template <typename F>
inline void binary(float* to, const float* a, const float* b, int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, f(load(a + i), load(b + i)));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) storePartial(to + i, f(loadPartial(a + i, rest), loadPartial(b + i, rest)), rest);
}

template <typename F>
inline void ternary(float* to, const float* a, const float* b, const float* c, int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, f(load(a + i), load(b + i), load(c + i)));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) storePartial(to + i, f(loadPartial(a + i, rest), loadPartial(b + i, rest), loadPartial(c + i, rest)), rest);
}

template <typename F>
inline void integer(float* to, const float* a, const float* b, int64_t n, F&& f) {
  binary(to, a, b, n, [&](F32 x, F32 y) { return floatOf(f(bitsOf(x), bitsOf(y))); });
}

// Division has no vector form. By zero: 0, as for a masked-out element that nobody reads.
inline int32_t divide(int32_t a, int32_t b) {
  if (b == 0) return 0;
  return b == -1 ? static_cast<int32_t>(0u - static_cast<uint32_t>(a)) : a / b;
}
inline int32_t remainder(int32_t a, int32_t b) { return b == 0 || b == -1 ? 0 : a % b; }

// Towards zero; out of range to the nearest integer there is, NaN to 0.
inline I32 clampedInt(F32 x) {
  const I32 whole = select(lessEqual(splat(2147483648.0f), x), splatInt(INT32_MAX),
                           select(less(x, splat(-2147483648.0f)), splatInt(INT32_MIN), truncate(x)));
  return select(notEqual(x, x), splatInt(0), whole);
}

// The nearest float16, widened again: what a value is after being stored and loaded.
inline F32 roundF16(F32 x) {
  uint16_t lanes[kLanes];
  storeF16(lanes, x);
  return loadF16(lanes);
}

template <typename F>
inline void integerScalar(float* to, const float* a, const float* b, int64_t n, F&& f) {
  for (int64_t i = 0; i < n; i++) {
    int32_t x, y;
    std::memcpy(&x, a + i, 4);
    std::memcpy(&y, b + i, 4);
    x = f(x, y);
    std::memcpy(to + i, &x, 4);
  }
}

}  // namespace fused_loops

/** to[0..n) = op(a, b, c). `to` may be one of the operands. */
inline void runOpcode(Opcode op, float* to, const float* a, const float* b, const float* c, int64_t n) {
  using namespace fused_loops;
  using O = Opcode;
  const F32 one = splat(1.0f);
  switch (op) {
    case O::op_neg: return unary(to, a, n, [](F32 x) { return -x; });
    case O::op_abs: return unary(to, a, n, [](F32 x) { return simd::abs(x); });
    case O::op_exp: return unary(to, a, n, [](F32 x) { return simd::exp(x); });
    case O::op_log: return unary(to, a, n, [](F32 x) { return simd::log(x); });
    case O::op_sqrt: return unary(to, a, n, [](F32 x) { return simd::sqrt(x); });
    case O::op_rsqrt: return unary(to, a, n, [=](F32 x) { return one / simd::sqrt(x); });
    case O::op_reciprocal: return unary(to, a, n, [=](F32 x) { return one / x; });
    case O::op_square: return unary(to, a, n, [](F32 x) { return x * x; });
    case O::op_tanh: return unary(to, a, n, [](F32 x) { return simd::tanh(x); });
    case O::op_sigmoid: return unary(to, a, n, [](F32 x) { return simd::sigmoid(x); });
    case O::op_sin: return unary(to, a, n, [](F32 x) { return simd::sin(x); });
    case O::op_cos: return unary(to, a, n, [](F32 x) { return simd::cos(x); });
    case O::op_erf: return unary(to, a, n, [](F32 x) { return simd::erf(x); });
    case O::op_floor: return unary(to, a, n, [](F32 x) { return simd::floor(x); });
    case O::op_sign: return unary(to, a, n, [](F32 x) { return simd::sign(x); });
    case O::op_gelu_tanh: return unary(to, a, n, [](F32 x) { return simd::geluTanh(x); });
    case O::op_gelu_erf: return unary(to, a, n, [](F32 x) { return simd::geluErf(x); });
    case O::op_silu: return unary(to, a, n, [](F32 x) { return simd::silu(x); });
    case O::op_relu: return unary(to, a, n, [](F32 x) { return simd::max(zero(), x); });
    case O::op_not: return unary(to, a, n, [](F32 x) { return oneWhere(equal(x, zero())); });
    case O::op_gelu_tanh_grad: return unary(to, a, n, [](F32 x) { return simd::geluTanhGrad(x); });
    case O::op_gelu_erf_grad: return unary(to, a, n, [](F32 x) { return simd::geluErfGrad(x); });
    case O::op_silu_grad: return unary(to, a, n, [](F32 x) { return simd::siluGrad(x); });
    case O::op_gelu_tanh_gate: return unary(to, a, n, [](F32 x) { return simd::geluTanhGate(x); });
    case O::op_gelu_erf_gate: return unary(to, a, n, [](F32 x) { return simd::geluErfGate(x); });
    case O::op_gelu_tanh_slope: return binary(to, a, b, n, [](F32 x, F32 gate) { return simd::geluTanhSlope(x, gate); });
    case O::op_gelu_erf_slope: return binary(to, a, b, n, [](F32 x, F32 gate) { return simd::geluErfSlope(x, gate); });
    case O::op_silu_slope: return binary(to, a, b, n, [](F32 x, F32 gate) { return simd::siluSlope(x, gate); });
    case O::op_add: return binary(to, a, b, n, [](F32 x, F32 y) { return x + y; });
    case O::op_sub: return binary(to, a, b, n, [](F32 x, F32 y) { return x - y; });
    case O::op_mul: return binary(to, a, b, n, [](F32 x, F32 y) { return x * y; });
    case O::op_div: return binary(to, a, b, n, [](F32 x, F32 y) { return x / y; });
    case O::op_max: return binary(to, a, b, n, [](F32 x, F32 y) { return maxNan(x, y); });
    case O::op_min: return binary(to, a, b, n, [](F32 x, F32 y) { return minNan(x, y); });
    case O::op_pow: return binary(to, a, b, n, [](F32 x, F32 y) { return simd::pow(x, y); });
    case O::op_lt: return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(less(x, y)); });
    case O::op_le: return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(lessEqual(x, y)); });
    case O::op_eq: return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(equal(x, y)); });
    case O::op_ne: return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(notEqual(x, y)); });
    case O::op_gt: return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(less(y, x)); });
    case O::op_ge: return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(lessEqual(y, x)); });
    case O::op_and:
      return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(notEqual(x, zero()) & notEqual(y, zero())); });
    case O::op_or:
      return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(notEqual(x, zero()) | notEqual(y, zero())); });
    case O::op_select:
      return ternary(to, a, b, c, n, [](F32 x, F32 y, F32 z) { return select(notEqual(x, zero()), y, z); });
    case O::op_fma: return ternary(to, a, b, c, n, [](F32 x, F32 y, F32 z) { return simd::fma(x, y, z); });
    case O::op_iadd: return integer(to, a, b, n, [](I32 x, I32 y) { return x + y; });
    case O::op_isub: return integer(to, a, b, n, [](I32 x, I32 y) { return x - y; });
    case O::op_imul: return integer(to, a, b, n, [](I32 x, I32 y) { return x * y; });
    case O::op_idiv: return integerScalar(to, a, b, n, divide);
    case O::op_irem: return integerScalar(to, a, b, n, fused_loops::remainder);
    case O::op_imax: return integer(to, a, b, n, [](I32 x, I32 y) { return select(greater(x, y), x, y); });
    case O::op_imin: return integer(to, a, b, n, [](I32 x, I32 y) { return select(greater(x, y), y, x); });
    case O::op_ilt:
      return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(greater(bitsOf(y), bitsOf(x))); });
    case O::op_ile:
      return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(!greater(bitsOf(x), bitsOf(y))); });
    case O::op_ieq: return binary(to, a, b, n, [](F32 x, F32 y) { return oneWhere(equal(bitsOf(x), bitsOf(y))); });
    case O::op_int_to_float: return unary(to, a, n, [](F32 x) { return toFloat(bitsOf(x)); });
    case O::op_float_to_int: return unary(to, a, n, [](F32 x) { return floatOf(fused_loops::clampedInt(x)); });
    case O::op_round_bf16: return unary(to, a, n, [](F32 x) { return simd::roundToBf16(x); });
    case O::op_round_f16: return unary(to, a, n, fused_loops::roundF16);
    case O::op_load:
    case O::op_load_int:
    case O::op_const:
    case O::op_const_int:
    case O::op_store:
    case O::op_store_int:
    case O::op_reduce_sum:
    case O::op_reduce_max: return;  // moved by the machine, not computed
  }
}

/** Sum or maximum of a contiguous run, in an order that depends on n alone. */
inline float reduceRun(Opcode op, const float* x, int64_t n) {
  using namespace simd;
  if (op == Opcode::op_reduce_sum) return sumRun(x, n);
  return maxRun(x, n);
}

}  // namespace plinth
