// AVX-512 (F, BW, VL, DQ): sixteen lanes, masks in mask registers. Interface described in ../simd.h.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own AVX-512 header seeds undefined vectors with themselves (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

namespace plinth::simd {

constexpr int kLanes = 16;

struct F32 { __m512 v; };
struct I32 { __m512i v; };
struct Mask { __mmask16 v; };

inline __mmask16 firstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

inline F32 zero() { return {_mm512_setzero_ps()}; }
inline F32 splat(float x) { return {_mm512_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F32 loadPartial(const float* p, int n) { return {_mm512_maskz_loadu_ps(firstLanes(n), p)}; }
inline void store(float* p, F32 x) { _mm512_storeu_ps(p, x.v); }
inline void storePartial(float* p, F32 x, int n) { _mm512_mask_storeu_ps(p, firstLanes(n), x.v); }

inline I32 splatInt(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline I32 loadInt(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline I32 loadIntPartial(const int32_t* p, int n) { return {_mm512_maskz_loadu_epi32(firstLanes(n), p)}; }
inline void storeInt(int32_t* p, I32 x) { _mm512_storeu_si512(p, x.v); }
inline void storeIntPartial(int32_t* p, I32 x, int n) { _mm512_mask_storeu_epi32(p, firstLanes(n), x.v); }

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F32 fnma(F32 a, F32 b, F32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
inline F32 floor(F32 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
inline F32 roundNearest(F32 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32 scalePow2(F32 a, F32 n) { return {_mm512_scalef_ps(a.v, n.v)}; }

inline I32 operator+(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I32 operator-(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline I32 operator*(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
inline I32 multiplyHigh(I32 a, I32 b) {
  const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(a.v, b.v), 32);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), _mm512_srli_epi64(b.v, 32));
  return {_mm512_mask_blend_epi32(0xaaaa, even, odd)};
}
inline I32 operator&(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline I32 operator|(I32 a, I32 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline I32 operator^(I32 a, I32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int n> I32 shiftLeft(I32 a) { return {_mm512_slli_epi32(a.v, n)}; }
template <int n> I32 shiftRight(I32 a) { return {_mm512_srai_epi32(a.v, n)}; }
template <int n> I32 shiftRightLogical(I32 a) { return {_mm512_srli_epi32(a.v, n)}; }

inline I32 bitsOf(F32 a) { return {_mm512_castps_si512(a.v)}; }
inline F32 floatOf(I32 a) { return {_mm512_castsi512_ps(a.v)}; }
inline F32 toFloat(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline I32 truncate(F32 a) { return {_mm512_cvttps_epi32(a.v)}; }

inline Mask less(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask lessEqual(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline Mask equal(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
inline Mask notEqual(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NEQ_UQ)}; }
inline Mask equal(I32 a, I32 b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
inline Mask greater(I32 a, I32 b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
inline Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.v & b.v)}; }
inline Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }
inline Mask operator!(Mask a) { return {static_cast<__mmask16>(~a.v)}; }
inline bool any(Mask a) { return a.v != 0; }
inline F32 select(Mask m, F32 a, F32 b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
inline I32 select(Mask m, I32 a, I32 b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }

inline float reduceAdd(F32 a) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
inline float reduceMax(F32 a) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

inline I32 widenUnsigned(const uint16_t* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline I32 widenUnsignedPartial(const uint16_t* p, int n) {
  return {_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(firstLanes(n), p))};
}
// The first n of 32 values as they lie, two to a lane.
inline F32 loadHalves(const uint16_t* p, int n) {
  const __mmask32 mask = n >= 32 ? 0xffffffffu : (1u << n) - 1u;
  return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, p))};
}
inline void narrow(uint16_t* p, I32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.v));
}
inline F32 loadF16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline void storeF16(uint16_t* p, F32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace plinth::simd
