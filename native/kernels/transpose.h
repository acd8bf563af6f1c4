// Transposes of square blocks of kLanes x kLanes floats held in registers.
#pragma once

#include "simd.h"

// Loops over registers must unroll whole, or the registers live in memory.
#if defined(__clang__)
#define PLINTH_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define PLINTH_UNROLL _Pragma("GCC unroll 16")
#else
#define PLINTH_UNROLL
#endif

namespace plinth::simd {

#if defined(__AVX512F__)
inline void transposeBlock(F32 (&r)[16]) {
  __m512 t[16];
  PLINTH_UNROLL
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v);
  }
  __m512 u[16];  // u[4g + j]: column 4 * lane128 + j of rows 4g .. 4g+3
  PLINTH_UNROLL
  for (int g = 0; g < 4; g++) {
    const __m512d a = _mm512_castps_pd(t[4 * g]), b = _mm512_castps_pd(t[4 * g + 2]);
    const __m512d c = _mm512_castps_pd(t[4 * g + 1]), d = _mm512_castps_pd(t[4 * g + 3]);
    u[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    u[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    u[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
    u[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
  }
  PLINTH_UNROLL
  for (int j = 0; j < 4; j++) {
    const __m512 low02 = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88), low13 = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xdd);
    const __m512 high02 = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0x88);
    const __m512 high13 = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0xdd);
    r[j].v = _mm512_shuffle_f32x4(low02, high02, 0x88);
    r[4 + j].v = _mm512_shuffle_f32x4(low13, high13, 0x88);
    r[8 + j].v = _mm512_shuffle_f32x4(low02, high02, 0xdd);
    r[12 + j].v = _mm512_shuffle_f32x4(low13, high13, 0xdd);
  }
}
#elif defined(__AVX2__)
inline void transposeBlock(F32 (&r)[8]) {
  __m256 t[8], u[8];
  PLINTH_UNROLL
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v);
  }
  PLINTH_UNROLL
  for (int g = 0; g < 2; g++) {
    u[4 * g] = _mm256_shuffle_ps(t[4 * g], t[4 * g + 2], 0x44);
    u[4 * g + 1] = _mm256_shuffle_ps(t[4 * g], t[4 * g + 2], 0xee);
    u[4 * g + 2] = _mm256_shuffle_ps(t[4 * g + 1], t[4 * g + 3], 0x44);
    u[4 * g + 3] = _mm256_shuffle_ps(t[4 * g + 1], t[4 * g + 3], 0xee);
  }
  PLINTH_UNROLL
  for (int j = 0; j < 4; j++) {
    r[j].v = _mm256_permute2f128_ps(u[j], u[4 + j], 0x20);
    r[4 + j].v = _mm256_permute2f128_ps(u[j], u[4 + j], 0x31);
  }
}
#elif defined(__ARM_NEON)
inline void transposeBlock(F32 (&r)[4]) {
  const float32x4x2_t a = vtrnq_f32(r[0].v, r[1].v), b = vtrnq_f32(r[2].v, r[3].v);
  r[0].v = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  r[1].v = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  r[2].v = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  r[3].v = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}
#elif defined(__wasm_simd128__)
inline void transposeBlock(F32 (&r)[4]) {
  const v128_t a = wasm_i32x4_shuffle(r[0].v, r[1].v, 0, 4, 1, 5), b = wasm_i32x4_shuffle(r[0].v, r[1].v, 2, 6, 3, 7);
  const v128_t c = wasm_i32x4_shuffle(r[2].v, r[3].v, 0, 4, 1, 5), d = wasm_i32x4_shuffle(r[2].v, r[3].v, 2, 6, 3, 7);
  r[0].v = wasm_i64x2_shuffle(a, c, 0, 2);
  r[1].v = wasm_i64x2_shuffle(a, c, 1, 3);
  r[2].v = wasm_i64x2_shuffle(b, d, 0, 2);
  r[3].v = wasm_i64x2_shuffle(b, d, 1, 3);
}
#else
inline void transposeBlock(F32 (&r)[4]) { _MM_TRANSPOSE4_PS(r[0].v, r[1].v, r[2].v, r[3].v); }
#endif

}  // namespace plinth::simd
