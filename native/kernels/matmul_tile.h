// The register tile of the matrix product: kMr rows of A times two vectors of columns of B, both packed.
//
// Every element of the result is summed the same way everywhere: within a block of kBlockK terms one chain of
// multiply-adds in order of k, started at 0; the blocks' sums are then added in order. Which tile, thread or batch an
// element falls into changes nothing.
#pragma once

#include <cstdint>

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

// Part of the definition of the result (see above).
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

// c[rows, columns] (+)= a[kc][MR] * b[kc][NV * kLanes], rows <= MR, columns <= NV * kLanes.
template <int MR, int NV>
void tile(int64_t kc, const float* PLINTH_RESTRICT a, const float* PLINTH_RESTRICT b, float* PLINTH_RESTRICT c,
          int64_t strideC, int rows, int columns, bool add) {
  F32 sum[MR][NV];
  PLINTH_UNROLL
  for (int i = 0; i < MR; i++) {
    PLINTH_UNROLL
    for (int j = 0; j < NV; j++) sum[i][j] = simd::zero();
    PLINTH_PREFETCH(c + i * strideC);
  }
  for (int64_t k = 0; k < kc; k++) {
    F32 column[NV];
    PLINTH_UNROLL
    for (int j = 0; j < NV; j++) column[j] = simd::load(b + j * kLanes);
    for (int j = 0; j < NV; j++) PLINTH_PREFETCH(b + (8 * NV + j) * kLanes);
    PLINTH_UNROLL
    for (int i = 0; i < MR; i++) {
      const F32 row = simd::splat(a[i]);
      PLINTH_UNROLL
      for (int j = 0; j < NV; j++) sum[i][j] = simd::fma(row, column[j], sum[i][j]);
    }
    a += MR;
    b += NV * kLanes;
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

using Tile = void (*)(int64_t, const float*, const float*, float*, int64_t, int, int, bool);

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

}  // namespace plinth::matmul
