// Baseline x86-64 (SSE2): four lanes, masks as all-ones lanes, no fused multiply-add. Interface described in ../simd.h.
#pragma once
#include <emmintrin.h>

namespace plinth::simd {

constexpr int kLanes = 4;

struct F32 { __m128 v; };
struct I32 { __m128i v; };
struct Mask { __m128 v; };

inline F32 zero() { return {_mm_setzero_ps()}; }
inline F32 splat(float x) { return {_mm_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm_loadu_ps(p)}; }
inline void store(float* p, F32 x) { _mm_storeu_ps(p, x.v); }
inline I32 splatInt(int32_t x) { return {_mm_set1_epi32(x)}; }
inline I32 loadInt(const int32_t* p) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
inline void storeInt(int32_t* p, I32 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x.v); }

inline I32 bitsOf(F32 a) { return {_mm_castps_si128(a.v)}; }
inline F32 floatOf(I32 a) { return {_mm_castsi128_ps(a.v)}; }
inline F32 toFloat(I32 a) { return {_mm_cvtepi32_ps(a.v)}; }
inline I32 truncate(F32 a) { return {_mm_cvttps_epi32(a.v)}; }

inline F32 operator+(F32 a, F32 b) { return {_mm_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
inline F32 fnma(F32 a, F32 b, F32 c) { return c - a * b; }
inline F32 min(F32 a, F32 b) { return {_mm_min_ps(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm_max_ps(a.v, b.v)}; }
inline F32 sqrt(F32 a) { return {_mm_sqrt_ps(a.v)}; }

inline I32 operator+(I32 a, I32 b) { return {_mm_add_epi32(a.v, b.v)}; }
inline I32 operator-(I32 a, I32 b) { return {_mm_sub_epi32(a.v, b.v)}; }
inline I32 operator*(I32 a, I32 b) {
  const __m128i even = _mm_mul_epu32(a.v, b.v);
  const __m128i odd = _mm_mul_epu32(_mm_srli_si128(a.v, 4), _mm_srli_si128(b.v, 4));
  return {_mm_unpacklo_epi32(_mm_shuffle_epi32(even, _MM_SHUFFLE(0, 0, 2, 0)),
                             _mm_shuffle_epi32(odd, _MM_SHUFFLE(0, 0, 2, 0)))};
}
inline I32 multiplyHigh(I32 a, I32 b) {
  const __m128i even = _mm_mul_epu32(a.v, b.v);
  const __m128i odd = _mm_mul_epu32(_mm_srli_si128(a.v, 4), _mm_srli_si128(b.v, 4));
  return {_mm_unpacklo_epi32(_mm_shuffle_epi32(even, _MM_SHUFFLE(0, 0, 3, 1)),
                             _mm_shuffle_epi32(odd, _MM_SHUFFLE(0, 0, 3, 1)))};
}
inline I32 operator&(I32 a, I32 b) { return {_mm_and_si128(a.v, b.v)}; }
inline I32 operator|(I32 a, I32 b) { return {_mm_or_si128(a.v, b.v)}; }
inline I32 operator^(I32 a, I32 b) { return {_mm_xor_si128(a.v, b.v)}; }
template <int n> I32 shiftLeft(I32 a) { return {_mm_slli_epi32(a.v, n)}; }
template <int n> I32 shiftRight(I32 a) { return {_mm_srai_epi32(a.v, n)}; }
template <int n> I32 shiftRightLogical(I32 a) { return {_mm_srli_epi32(a.v, n)}; }

inline Mask less(F32 a, F32 b) { return {_mm_cmplt_ps(a.v, b.v)}; }
inline Mask lessEqual(F32 a, F32 b) { return {_mm_cmple_ps(a.v, b.v)}; }
inline Mask equal(F32 a, F32 b) { return {_mm_cmpeq_ps(a.v, b.v)}; }
inline Mask notEqual(F32 a, F32 b) { return {_mm_cmpneq_ps(a.v, b.v)}; }
inline Mask equal(I32 a, I32 b) { return {_mm_castsi128_ps(_mm_cmpeq_epi32(a.v, b.v))}; }
inline Mask greater(I32 a, I32 b) { return {_mm_castsi128_ps(_mm_cmpgt_epi32(a.v, b.v))}; }
inline Mask operator&(Mask a, Mask b) { return {_mm_and_ps(a.v, b.v)}; }
inline Mask operator|(Mask a, Mask b) { return {_mm_or_ps(a.v, b.v)}; }
inline Mask operator!(Mask a) { return {_mm_xor_ps(a.v, _mm_castsi128_ps(_mm_set1_epi32(-1)))}; }
inline bool any(Mask a) { return _mm_movemask_ps(a.v) != 0; }
inline F32 select(Mask m, F32 a, F32 b) { return {_mm_or_ps(_mm_and_ps(m.v, a.v), _mm_andnot_ps(m.v, b.v))}; }
inline I32 select(Mask m, I32 a, I32 b) { return bitsOf(select(m, floatOf(a), floatOf(b))); }

// Values of 2^23 and more are whole already (and NaN and infinities stay as they are).
inline F32 roundNearest(F32 a) {
  const F32 magnitude = floatOf(bitsOf(a) & splatInt(0x7fffffff));
  const F32 whole = {_mm_cvtepi32_ps(_mm_cvtps_epi32(a.v))};
  const I32 sign = bitsOf(a) & splatInt(INT32_MIN);
  return select(less(magnitude, splat(8388608.0f)), floatOf(bitsOf(whole) | sign), a);
}
inline F32 floor(F32 a) {
  const F32 whole = roundNearest(a);
  const F32 lower = select(less(a, whole), whole - splat(1.0f), whole);
  return floatOf(bitsOf(lower) | (bitsOf(a) & splatInt(INT32_MIN)));
}

inline float reduceAdd(F32 a) {
  const __m128 q = _mm_add_ps(a.v, _mm_movehl_ps(a.v, a.v));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
inline float reduceMax(F32 a) {
  const __m128 q = _mm_max_ps(a.v, _mm_movehl_ps(a.v, a.v));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

inline I32 widenUnsigned(const uint16_t* p) {
  return {_mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), _mm_setzero_si128())};
}
inline void narrow(uint16_t* p, I32 x) {
  const __m128i low = _mm_srai_epi32(_mm_slli_epi32(x.v, 16), 16);  // sign-extended, so that packs is exact
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(low, low));
}

}  // namespace plinth::simd
#define PLINTH_SIMD_GENERIC_PARTIAL 1
#define PLINTH_SIMD_GENERIC_SCALE 1
#define PLINTH_SIMD_GENERIC_F16 1
