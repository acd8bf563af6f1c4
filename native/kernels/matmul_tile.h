// The register tile of the matrix product: kMr rows of A times two vectors of columns of B, both packed.
//
// Every element of the result is summed the same way everywhere: within a block of kBlockK items (384 terms, or as
// bfloat16 pairs 768) one chain of multiply-adds in order of k, started at 0; the blocks' sums are then added in order. Which tile, thread or batch an
// element falls into changes nothing.
#pragma once

#include <cstdint>
#include <iterator>

#include "kernels/transpose.h"
#include "simd.h"

namespace plinth::matmul {

using simd::F32;
using simd::kLanes;

// Rows and vectors of columns of a tile: as many sums as the registers hold beside two vectors of B and one of A.
#if defined(__AVX512F__)
constexpr int kMr = 14;
#elif defined(__AVX2__)
constexpr int kMr = 6;
#elif defined(__ARM_NEON)
constexpr int kMr = 8;
#else
constexpr int kMr = 4;
#endif
constexpr int kNv = 2;
constexpr int kNr = kNv * kLanes;

// Items (below) per block; part of the definition of the result (see above).
constexpr int64_t kBlockK = 384;

#if defined(__GNUC__)
#define PLINTH_RESTRICT __restrict__
#define PLINTH_PREFETCH(p) __builtin_prefetch(p)
#define PLINTH_PREFETCH_L2(p) __builtin_prefetch(p, 0, 2)
#else
#define PLINTH_RESTRICT __restrict
#define PLINTH_PREFETCH(p) (void)(p)
#define PLINTH_PREFETCH_L2(p) (void)(p)
#endif

// A panel holds 32-bit items: a float32 term each, or two successive terms of K as bfloat16 (the second 0 beyond an odd K).
// How lanes of items of A and B are multiplied and added:
struct FloatTerms {
  static constexpr int kPerItem = 1;
  static F32 multiplyAdd(F32 a, F32 b, F32 sum) { return simd::fma(a, b, sum); }
};
#if defined(PLINTH_AVX512_BF16)
struct PairTerms {
  static constexpr int kPerItem = 2;
  static F32 multiplyAdd(F32 a, F32 b, F32 sum) { return simd::dotPairs(sum, a, b); }
};
// Operands rounded to bfloat16 are multiplied as pairs.
using Bf16Terms = PairTerms;
#else
using Bf16Terms = FloatTerms;
#endif

// c[rows, columns] (+)= a[items][MR] * b[items][NV * kLanes], rows <= MR, columns <= NV * kLanes. Unpacked, a is
// MR lines of items `lineStride` apart.
template <int MR, int NV, typename Terms, bool kIsPacked = true>
void tile(int64_t items, const float* PLINTH_RESTRICT a, int64_t lineStride, const float* PLINTH_RESTRICT b,
          float* PLINTH_RESTRICT c, int64_t strideC, int rows, int columns, bool add) {
  F32 sum[MR][NV];
  PLINTH_UNROLL
  for (int i = 0; i < MR; i++) {
    PLINTH_UNROLL
    for (int j = 0; j < NV; j++) sum[i][j] = simd::zero();
    PLINTH_PREFETCH(c + i * strideC);
    if (NV > 1) PLINTH_PREFETCH(c + i * strideC + 16);
  }
  const auto step = [&](auto&& itemOf) {
    F32 column[NV];
    PLINTH_UNROLL
    for (int j = 0; j < NV; j++) column[j] = simd::load(b + j * kLanes);
    for (int j = 0; j < NV; j++) PLINTH_PREFETCH(b + (8 * NV + j) * kLanes);
    PLINTH_UNROLL
    for (int i = 0; i < MR; i++) {
      const F32 row = simd::splat(itemOf(i));
      PLINTH_UNROLL
      for (int j = 0; j < NV; j++) sum[i][j] = Terms::multiplyAdd(row, column[j], sum[i][j]);
    }
    b += NV * kLanes;
  };
  if constexpr (kIsPacked) {
    for (int64_t k = 0; k < items; k++) {
      step([&](int i) { return a[i]; });
      a += MR;
    }
  } else {
    // A cache line of each line of a at a time; the next MR lines' are on their way meanwhile.
    constexpr int kLine = 16;
    for (int64_t k = 0; k < items; k += kLine) {
      for (int i = 0; i < MR; i++) PLINTH_PREFETCH_L2(a + (MR + i) * lineStride);
      for (int i = 0; i < MR; i++) PLINTH_PREFETCH(a + i * lineStride + kLine);
      const int64_t n = items - k < kLine ? items - k : kLine;
      for (int64_t t = 0; t < n; t++) {
        step([&](int i) { return a[i * lineStride]; });
        a++;
      }
    }
  }
  if (rows == MR && columns == NV * kLanes) {
    PLINTH_UNROLL
    for (int i = 0; i < MR; i++) {
      PLINTH_UNROLL
      for (int j = 0; j < NV; j++) {
        float* to = c + i * strideC + j * kLanes;
        simd::store(to, add ? simd::load(to) + sum[i][j] : sum[i][j]);
      }
    }
    return;
  }
  PLINTH_UNROLL
  for (int i = 0; i < MR; i++) {
    PLINTH_UNROLL
    for (int j = 0; j < NV; j++) {
      const int n = columns - j * kLanes;
      if (i < rows && n > 0) {
        float* to = c + i * strideC + j * kLanes;
        simd::storeUpTo(to, add ? simd::loadUpTo(to, n) + sum[i][j] : sum[i][j], n);
      }
    }
  }
}

using Tile = void (*)(int64_t, const float*, int64_t, const float*, float*, int64_t, int, int, bool);

// Heights a panel of A may have: full panels kMr, the last one the smallest of these that holds it.
#if defined(__AVX512F__)
constexpr int kHeights[] = {1, 2, 4, 6, 8, 10, 12, 14};
#elif defined(__AVX2__)
constexpr int kHeights[] = {1, 2, 4, 6};
#elif defined(__ARM_NEON)
constexpr int kHeights[] = {1, 2, 4, 8};
#else
constexpr int kHeights[] = {1, 2, 4};
#endif

// Widths of panels of a and b that hold so many lines.
inline int heightFor(int64_t lines) {
  for (const int height : kHeights) {
    if (height >= lines) return height;
  }
  return kMr;
}
inline int widthFor(int64_t lines) { return lines <= kLanes ? kLanes : kNr; }

// The tile of a panel of A `height` (one of kHeights) high and a panel of B of 1 or kNv vectors.
template <typename Terms, int Index = 0>
Tile pickTile(int height, int vectors) {
  if constexpr (Index < static_cast<int>(std::size(kHeights))) {
    if (kHeights[Index] == height) return vectors == 1 ? tile<kHeights[Index], 1, Terms> : tile<kHeights[Index], kNv, Terms>;
    return pickTile<Terms, Index + 1>(height, vectors);
  } else {
    return nullptr;
  }
}

// The same for an unpacked full panel of A.
template <typename Terms>
Tile pickDirectTile(int vectors) {
  return vectors == 1 ? tile<kMr, 1, Terms, false> : tile<kMr, kNv, Terms, false>;
}

}  // namespace plinth::matmul
