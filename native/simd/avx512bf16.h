// AVX512-BF16: pairs of bfloat16 in 32-bit lanes, the first of the pair in the lower half. The instructions take denormals
// as zero and give zero for them.
#pragma once
#include "avx512.h"

namespace plinth::simd {

// sum + a.first * b.first + a.second * b.second, in the instruction's own order.
inline F32 dotPairs(F32 sum, F32 a, F32 b) {
  return {_mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_castps_si512(a.v), (__m512bh)_mm512_castps_si512(b.v))};
}

// Lane i: (first[i], second[i]), rounded.
inline F32 interleavePairs(F32 first, F32 second) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8,  24, 9,  25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second.v, first.v);
  return {_mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both))};
}
// The same of values that are bfloat16 already.
inline F32 interleavePairs(const uint16_t* first, const uint16_t* second) {
  return floatOf(widenUnsigned(first) | shiftLeft<16>(widenUnsigned(second)));
}

// Successive values as pairs: lanes 0..7 from `low`, 8..15 from `high`, rounded.
inline F32 packPairs(F32 low, F32 high) {
  return {_mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high.v, low.v))};
}

}  // namespace plinth::simd
