// Register tiles of the product with a quantised weight.
//
// Every element of the result is summed the same way everywhere: within a group one chain in order of k, started at 0, of
// bfloat16(x) times code (in pairs by the dot product instruction where there is one, else by multiply-adds); then
// result = fma(scale, group's sum, result) in order of the groups. So a row has the same bits alone and among others.
#pragma once

#include "kernels/quantized_weight.h"

namespace plinth::quantized {

#if defined(__AVX512BF16__)
// x in pairs: [K / 2][rows] words of two bfloat16.
using Term = uint32_t;
constexpr int64_t kTermsPerWord = 2;
constexpr int kTileRows = 14;

template <Format F>
__m512i codeTable() {
  return _mm512_load_si512(F == Format::Nf4 ? kNf4Bits : kInt4Bits);
}

// Pair j (codes 2j and 2j + 1) of each lane's word as two bfloat16.
template <Format F, int J>
__m512bh codePair(__m512i word, __m512i table) {
  if constexpr (F == Format::Int8) {
    const __m512 even = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(word, 24 - 8 * J), 24));
    const __m512 odd = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(word, 8 - 8 * J), 24));
    // Small integers have nothing in the low half of a float32.
    const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even), 16);
    return (__m512bh)_mm512_mask_blend_epi16(0xaaaaaaaau, low, _mm512_castps_si512(odd));
  } else {
    // Only the lowest five bits of an index count, and the table repeats after sixteen.
    return (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(word, 4 * J), table);
  }
}

template <Format F, typename Use>
inline __attribute__((always_inline)) void forPairs(__m512i word, __m512i table, Use&& use) {
  use.template operator()<0>(codePair<F, 0>(word, table));
  use.template operator()<1>(codePair<F, 1>(word, table));
  if constexpr (F != Format::Int8) {
    use.template operator()<2>(codePair<F, 2>(word, table));
    use.template operator()<3>(codePair<F, 3>(word, table));
  }
}

inline __m512bh pairOf(const uint32_t* x) { return (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(*x)); }

// Few rows, straight from the codes: sum[M][NV * 16] of P = NV / 2 panels. x[m] = x + m * K / 2, scales [groups][32] per
// panel. Several panels at once, because one chain of sums waits for itself.
template <Format F, int M, int NV>
void fewRows(const Weight& w, int64_t panel, const uint32_t* x, const float* scales, float* out) {
  const __m512i table = codeTable<F>();
  constexpr int kPairs = F == Format::Int8 ? 2 : 4;
  const int64_t steps = w.groupSize / (2 * kPairs), stride = w.paddedK() / 2;
  const uint32_t* codes[NV / 2];
  for (int p = 0; p < NV / 2; p++) codes[p] = w.codes(panel + p);
  __m512 total[M][NV];
  PLINTH_UNROLL
  for (int m = 0; m < M; m++) {
    PLINTH_UNROLL
    for (int v = 0; v < NV; v++) total[m][v] = _mm512_setzero_ps();
  }
  for (int64_t g = 0; g < w.groups; g++) {
    __m512 sum[M][NV];
    PLINTH_UNROLL
    for (int m = 0; m < M; m++) {
      PLINTH_UNROLL
      for (int v = 0; v < NV; v++) sum[m][v] = _mm512_setzero_ps();
    }
    for (int64_t s = 0; s < steps; s++) {
      PLINTH_UNROLL
      for (int v = 0; v < NV; v++) {
        const uint32_t* from = codes[v / 2] + v % 2 * 16;
        _mm_prefetch(reinterpret_cast<const char*>(from + 512), _MM_HINT_T0);
        forPairs<F>(_mm512_loadu_si512(from), table, [&]<int J>(__m512bh pair) {
          PLINTH_UNROLL
          for (int m = 0; m < M; m++) sum[m][v] = _mm512_dpbf16_ps(sum[m][v], pair, pairOf(x + m * stride + J));
        });
      }
      PLINTH_UNROLL
      for (int p = 0; p < NV / 2; p++) codes[p] += kPanel;
      x += kPairs;
    }
    PLINTH_UNROLL
    for (int v = 0; v < NV; v++) {
      const __m512 scale = _mm512_loadu_ps(scales + v / 2 * w.groups * kPanel + g * kPanel + v % 2 * 16);
      PLINTH_UNROLL
      for (int m = 0; m < M; m++) total[m][v] = _mm512_fmadd_ps(scale, sum[m][v], total[m][v]);
    }
  }
  PLINTH_UNROLL
  for (int m = 0; m < M; m++) {
    PLINTH_UNROLL
    for (int v = 0; v < NV; v++) _mm512_storeu_ps(out + m * NV * 16 + v * 16, total[m][v]);
  }
}

// Codes of one group of a panel as pairs: to[groupSize / 2][32].
template <Format F>
void unpackPairs(const uint32_t* codes, int64_t groupSize, uint32_t* to) {
  const __m512i table = codeTable<F>();
  constexpr int kPairs = F == Format::Int8 ? 2 : 4;
  for (int64_t s = 0; s < groupSize / (2 * kPairs); s++) {
    for (int v = 0; v < 2; v++) {
      forPairs<F>(_mm512_loadu_si512(codes + s * kPanel + v * 16), table, [&]<int J>(__m512bh pair) {
        _mm512_storeu_si512(to + (s * kPairs + J) * kPanel + v * 16, (__m512i)pair);
      });
    }
  }
}

// out[MR][32] += scales[32] * (x[groupSize / 2][MR] times codes[groupSize / 2][32]).
template <int MR>
void groupTile(int64_t groupSize, const uint32_t* x, const uint32_t* codes, const float* scales, float* out) {
  __m512 sum[MR][2];
  PLINTH_UNROLL
  for (int m = 0; m < MR; m++) sum[m][0] = sum[m][1] = _mm512_setzero_ps();
  for (int64_t k = 0; k < groupSize / 2; k++) {
    const __m512bh left = (__m512bh)_mm512_loadu_si512(codes), right = (__m512bh)_mm512_loadu_si512(codes + 16);
    PLINTH_UNROLL
    for (int m = 0; m < MR; m++) {
      const __m512bh pair = pairOf(x + m);
      sum[m][0] = _mm512_dpbf16_ps(sum[m][0], left, pair);
      sum[m][1] = _mm512_dpbf16_ps(sum[m][1], right, pair);
    }
    x += MR;
    codes += kPanel;
  }
  const __m512 scale0 = _mm512_loadu_ps(scales), scale1 = _mm512_loadu_ps(scales + 16);
  PLINTH_UNROLL
  for (int m = 0; m < MR; m++) {
    float* to = out + m * kPanel;
    _mm512_storeu_ps(to, _mm512_fmadd_ps(scale0, sum[m][0], _mm512_loadu_ps(to)));
    _mm512_storeu_ps(to + 16, _mm512_fmadd_ps(scale1, sum[m][1], _mm512_loadu_ps(to + 16)));
  }
}
#else
// x as float32 that bfloat16 can hold: [K][rows].
using Term = float;
constexpr int64_t kTermsPerWord = 1;
constexpr int kTileRows = kLanes == 16 ? 8 : 4;

template <Format F>
void unpackPairs(const uint32_t* codes, int64_t groupSize, float* to) {
  unpackGroup<F>(codes, groupSize, to);
}

// out[MR][32] += scales[32] * (x[groupSize][MR] times codes[groupSize][32]).
template <int MR>
void groupTile(int64_t groupSize, const float* x, const float* codes, const float* scales, float* out) {
  constexpr int kNv = 2;
  for (int v = 0; v < kVectors; v += kNv) {
    F32 sum[MR][kNv];
    for (int m = 0; m < MR; m++) {
      for (int j = 0; j < kNv; j++) sum[m][j] = simd::zero();
    }
    for (int64_t k = 0; k < groupSize; k++) {
      F32 column[kNv];
      PLINTH_UNROLL
      for (int j = 0; j < kNv; j++) column[j] = simd::load(codes + k * kPanel + (v + j) * kLanes);
      PLINTH_UNROLL
      for (int m = 0; m < MR; m++) {
        const F32 row = simd::splat(x[k * MR + m]);
        PLINTH_UNROLL
        for (int j = 0; j < kNv; j++) sum[m][j] = simd::fma(row, column[j], sum[m][j]);
      }
    }
    for (int m = 0; m < MR; m++) {
      for (int j = 0; j < kNv; j++) {
        float* to = out + m * kPanel + (v + j) * kLanes;
        simd::store(to, simd::fma(simd::load(scales + (v + j) * kLanes), sum[m][j], simd::load(to)));
      }
    }
  }
}
#endif

}  // namespace plinth::quantized
