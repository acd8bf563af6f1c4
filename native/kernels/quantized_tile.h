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
constexpr int kTileRows = 14, kTileColumns = 32;

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

// All pairs of each lane's word, in order.
template <Format F>
inline __attribute__((always_inline)) void codePairs(__m512i word, __m512i table, __m512bh* pairs) {
  pairs[0] = codePair<F, 0>(word, table);
  pairs[1] = codePair<F, 1>(word, table);
  if constexpr (F != Format::Int8) {
    pairs[2] = codePair<F, 2>(word, table);
    pairs[3] = codePair<F, 3>(word, table);
  }
}

inline __m512bh pairOf(const uint32_t* x) { return (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(*x)); }

// Scales of group g, columns 16 v on: from bfloat16 as they lie in the panel, or for nf4 computed beforehand.
template <Format F>
__m512 scalesAt(const uint32_t* panel, const float* computed, int64_t g, int v) {
  if constexpr (F == Format::Nf4) return _mm512_loadu_ps(computed + g * kPanel + v * 16);
  else return simd::loadBf16(reinterpret_cast<const uint16_t*>(panel) + g * kPanel + v * 16).v;
}

// How far ahead of the codes in use a panel is brought to the second level of cache, in bytes: what the processor
// fetches by itself, or to the first level, is too little at a time for the speed of memory.
constexpr int64_t kAhead = 8192;

// Few rows, straight from the codes of a panel: out[M][64]. x[m] = x + m * K / 2; scales [groups][64], of nf4 only. Memory
// is read in order; four vectors side by side, because one chain of sums waits for itself.
template <Format F, int M>
void fewRows(const Weight& w, int64_t panel, const uint32_t* x, const float* scales, float* out) {
  constexpr int kPairs = F == Format::Int8 ? 2 : 4, kWide = kPanel / 16;
  const __m512i table = codeTable<F>();
  const int64_t steps = w.groupSize / (2 * kPairs), stride = w.paddedK() / 2;
  const uint32_t* start = w.words + panel * w.panelWords;
  const uint32_t* codes = w.codes(panel);
  __m512 total[M][kWide];
  PLINTH_UNROLL
  for (int m = 0; m < M; m++) {
    PLINTH_UNROLL
    for (int v = 0; v < kWide; v++) total[m][v] = _mm512_setzero_ps();
  }
  for (int64_t g = 0; g < w.groups; g++) {
    __m512 sum[M][kWide];
    PLINTH_UNROLL
    for (int m = 0; m < M; m++) {
      PLINTH_UNROLL
      for (int v = 0; v < kWide; v++) sum[m][v] = _mm512_setzero_ps();
    }
    for (int64_t s = 0; s < steps; s++) {
      PLINTH_UNROLL
      for (int v = 0; v < kWide; v++) {
        const uint32_t* from = codes + v * 16;
        _mm_prefetch(reinterpret_cast<const char*>(from) + kAhead, _MM_HINT_T1);
        __m512bh pairs[kPairs];
        codePairs<F>(_mm512_loadu_si512(from), table, pairs);
        PLINTH_UNROLL
        for (int j = 0; j < kPairs; j++) {
          PLINTH_UNROLL
          for (int m = 0; m < M; m++) sum[m][v] = _mm512_dpbf16_ps(sum[m][v], pairs[j], pairOf(x + m * stride + j));
        }
      }
      codes += kPanel;
      x += kPairs;
    }
    PLINTH_UNROLL
    for (int v = 0; v < kWide; v++) {
      const __m512 scale = scalesAt<F>(start, scales, g, v);
      PLINTH_UNROLL
      for (int m = 0; m < M; m++) total[m][v] = _mm512_fmadd_ps(scale, sum[m][v], total[m][v]);
    }
  }
  PLINTH_UNROLL
  for (int m = 0; m < M; m++) {
    PLINTH_UNROLL
    for (int v = 0; v < kWide; v++) _mm512_storeu_ps(out + m * kPanel + v * 16, total[m][v]);
  }
}

// Codes of one group of a panel as pairs: to[2][groupSize / 2][32], the halves of the panel one after the other.
template <Format F>
void unpackTerms(const uint32_t* codes, int64_t groupSize, uint32_t* to) {
  const __m512i table = codeTable<F>();
  constexpr int kPairs = F == Format::Int8 ? 2 : 4;
  for (int64_t s = 0; s < groupSize / (2 * kPairs); s++) {
    for (int v = 0; v < kPanel / 16; v++) {
      __m512bh pairs[kPairs];
      codePairs<F>(_mm512_loadu_si512(codes + s * kPanel + v * 16), table, pairs);
      uint32_t* half = to + v / 2 * (groupSize / 2 * kTileColumns) + v % 2 * 16;
      PLINTH_UNROLL
      for (int j = 0; j < kPairs; j++) _mm512_storeu_si512(half + (s * kPairs + j) * kTileColumns, (__m512i)pairs[j]);
    }
  }
}

// out[MR][32 of 64] += scales[32] * (x[groupSize / 2][MR] times codes[groupSize / 2][32]).
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
    codes += kTileColumns;
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
constexpr int kTileRows = kLanes == 16 ? 8 : 4, kTileColumns = kPanel;

template <Format F>
void unpackTerms(const uint32_t* codes, int64_t groupSize, float* to) {
  unpackGroup<F>(codes, groupSize, to);
}

// out[MR][64] += scales[64] * (x[groupSize][MR] times codes[groupSize][64]).
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
