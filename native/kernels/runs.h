// Sums and maxima over contiguous float32 runs, shared by the kernels that reduce. The order of the additions depends on
// the length alone.
#pragma once
#include "../simd.h"

namespace plinth {

/** Sum of f(vector of x at i) over a run, with four running vectors. `f` must give 0 for the zero lanes of the tail. */
template <typename F>
inline float sumRunOf(int64_t n, F&& f) {
  using namespace simd;
  F32 s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    s0 = s0 + f(i, kLanes);
    s1 = s1 + f(i + kLanes, kLanes);
    s2 = s2 + f(i + 2 * kLanes, kLanes);
    s3 = s3 + f(i + 3 * kLanes, kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) s0 = s0 + f(i, kLanes);
  if (i < n) s1 = s1 + f(i, static_cast<int>(n - i));
  return reduceAdd((s0 + s1) + (s2 + s3));
}

inline float sumRun(const float* x, int64_t n) {
  return sumRunOf(n, [x](int64_t i, int lanes) { return simd::loadUpTo(x + i, lanes); });
}

/** Largest element; NaN if there is one; -inf for an empty run. */
inline float maxRun(const float* x, int64_t n) {
  using namespace simd;
  F32 m0 = splat(-kInfinity), m1 = m0;
  F32 unordered = zero();  // stays 0 unless a NaN (or inf - inf) goes in
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const F32 a = load(x + i), b = load(x + i + kLanes);
    m0 = max(a, m0);
    m1 = max(b, m1);
    unordered = floatOf(bitsOf(unordered) | bitsOf(select(notEqual(a, a) | notEqual(b, b), splat(1.0f), zero())));
  }
  float best = reduceMax(max(m0, m1));
  bool nan = any(notEqual(unordered, zero()));
  for (; i < n; i++) {
    nan = nan || x[i] != x[i];
    if (x[i] > best) best = x[i];
  }
  return nan ? std::numeric_limits<float>::quiet_NaN() : best;
}

}  // namespace plinth
