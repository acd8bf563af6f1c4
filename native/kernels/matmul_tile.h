// The register tile of the matrix product: kMr rows of A times two vectors of columns of B, both packed.
//
// Every element of the result is summed the same way everywhere: within a block of kBlockK items (384 terms, or as
// bfloat16 pairs 768) one chain of multiply-adds in order of k, started at 0; the blocks' sums are then added in order. Which tile, thread or batch an
// element falls into changes nothing.
#pragma once

#include <cstdint>
#include <iterator>

#include "kernels/element.h"
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
#if defined(__AVX512F__)
#define PLINTH_PREFETCH_WRITE(p) asm volatile("prefetchw %0" ::"m"(*(p)))
#else
#define PLINTH_PREFETCH_WRITE(p) __builtin_prefetch(p, 1)
#endif
#else
#define PLINTH_RESTRICT __restrict
#define PLINTH_PREFETCH(p) (void)(p)
#define PLINTH_PREFETCH_L2(p) (void)(p)
#define PLINTH_PREFETCH_WRITE(p) (void)(p)
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

// Brings memory into the second-level cache a few lines at a time, between multiply-adds: what will be packed next. Packing waits
// for memory, tiles do not.
class Ahead {
 public:
  Ahead() = default;
  // `rows` rows of `bytes` bytes, `pitch` apart, in `steps` steps.
  Ahead(const char* from, int64_t rows, int64_t bytes, int64_t pitch, int64_t steps)
      : row_(reinterpret_cast<uintptr_t>(from) / kLine * kLine), pitch_(pitch), rowsLeft_(rows) {
    width_ = bytes + static_cast<int64_t>(reinterpret_cast<uintptr_t>(from) - row_);
    perStep_ = (rows * ((width_ + kLine - 1) / kLine) + steps - 1) / steps;
  }

  void step() {
    for (int64_t i = 0; i < perStep_ && rowsLeft_ > 0; i++) {
      PLINTH_PREFETCH_L2(reinterpret_cast<const char*>(row_) + at_);
      at_ += kLine;
      if (at_ < width_) continue;
      at_ = 0;
      row_ += static_cast<uintptr_t>(pitch_);
      rowsLeft_--;
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  uintptr_t row_ = 0;
  int64_t pitch_ = 0, width_ = 0, at_ = 0, rowsLeft_ = 0, perStep_ = 0;
};

// Items of a packed tile between two steps of `Ahead`.
constexpr int64_t kAheadItems = 64;

// Where the sums of a tile go: c (or c + sums, `add`), or rounded to bfloat16 to `narrow`, which makes c needless unless `add`.
// Of a tile only rows x columns are wanted.
struct TileResult {
  float* c;
  int64_t stride;
  BFloat16* narrow;
  int64_t narrowStride;
  int rows, columns;
  bool add;
};

// The sums of a[items][MR] * b[items][NV * kLanes]. Unpacked, a is MR lines of items `lineStride` apart.
template <int MR, int NV, typename Terms, bool kIsPacked = true>
void tile(int64_t items, const float* PLINTH_RESTRICT a, int64_t lineStride, const float* PLINTH_RESTRICT b, const TileResult& result,
          Ahead& ahead) {
  F32 sum[MR][NV];
  PLINTH_UNROLL
  for (int i = 0; i < MR; i++) {
    PLINTH_UNROLL
    for (int j = 0; j < NV; j++) sum[i][j] = simd::zero();
    if (result.narrow != nullptr) PLINTH_PREFETCH(result.narrow + i * result.narrowStride);
    if (result.narrow != nullptr && !result.add) continue;
    PLINTH_PREFETCH(result.c + i * result.stride);
    if (NV > 1) PLINTH_PREFETCH(result.c + i * result.stride + 16);
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
    for (int64_t k = 0; k < items; k += kAheadItems) {
      ahead.step();
      const int64_t n = items - k < kAheadItems ? items - k : kAheadItems;
      for (int64_t t = 0; t < n; t++) {
        step([&](int i) { return a[i]; });
        a += MR;
      }
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
  const bool isWhole = result.rows == MR && result.columns == NV * kLanes;
  PLINTH_UNROLL
  for (int i = 0; i < MR; i++) {
    PLINTH_UNROLL
    for (int j = 0; j < NV; j++) {
      float* at = result.c + i * result.stride + j * kLanes;
      const int64_t narrowAt = i * result.narrowStride + j * kLanes;
      if (isWhole) {
        const F32 x = result.add ? simd::load(at) + sum[i][j] : sum[i][j];
        if (result.narrow != nullptr) storeVector(result.narrow + narrowAt, x);
        else simd::store(at, x);
        continue;
      }
      const int n = result.columns - j * kLanes;
      if (i >= result.rows || n <= 0) continue;
      const F32 x = result.add ? simd::loadUpTo(at, n) + sum[i][j] : sum[i][j];
      if (result.narrow != nullptr) storeVectorUpTo(result.narrow + narrowAt, x, n);
      else simd::storeUpTo(at, x, n);
    }
  }
}

using Tile = void (*)(int64_t, const float*, int64_t, const float*, const TileResult&, Ahead&);

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
