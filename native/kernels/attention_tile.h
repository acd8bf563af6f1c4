// The products of the attention kernels: register tiles over operands held as words, float32 or pairs of bfloat16.
#pragma once
#include <algorithm>
#include <cstdint>

#include "../simd.h"

namespace plinth::attention {

using simd::F32;
using simd::I32;
using simd::kLanes;

// How the operands of products are held: a word is kDepth consecutive terms of a sum.
/** float32 as it is. */
struct Exact {
  using Word = float;
  static constexpr int kDepth = 1;
  static constexpr bool kRounded = false;
};
/** float32 rounded to bfloat16. */
struct Rounded {
  using Word = float;
  static constexpr int kDepth = 1;
  static constexpr bool kRounded = true;
};
#if defined(__AVX512BF16__)
/** Two bfloat16, the first in the low half. */
struct Paired {
  using Word = uint32_t;
  static constexpr int kDepth = 2;
  static constexpr bool kRounded = true;
};
using Narrow = Paired;
#else
using Narrow = Rounded;
#endif

constexpr int kTileRows = 6;
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define PLINTH_ATTENTION_UNROLL _Pragma("GCC unroll 8")
#elif defined(__clang__)
#define PLINTH_ATTENTION_UNROLL _Pragma("unroll")
#else
#define PLINTH_ATTENTION_UNROLL
#endif

inline int64_t roundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
inline int64_t roundUpToLanes(int64_t n) { return roundUp(n, kLanes); }

inline F32 loadWords(const float* p) { return simd::load(p); }
inline F32 splatWord(float x) { return simd::splat(x); }
inline F32 multiplyAdd(F32 a, F32 b, F32 sum) { return simd::fma(a, b, sum); }
#if defined(__AVX512BF16__)
inline I32 loadWords(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
inline I32 splatWord(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
inline F32 multiplyAdd(I32 a, I32 b, F32 sum) { return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v)}; }
#endif

/** An operand whose words are read one by one: word (r, p) is at data[r * row + p * step]. */
template <typename Word>
struct Left {
  const Word* data;
  int64_t row, step;
};

/** What the sums start from: nothing, what is there, or what is there times a factor per row. */
enum class Start { Zero, Add, Scale };

// c[r][n] = start + sum over p in order of left(r, p) * right[p][n], for R rows and V vectors of columns. Every element is
// summed alike whatever the tile, so tiles change no bits.
template <Start start, int R, int V, typename Word>
inline void tile(Left<Word> left, const Word* right, int64_t rightStep, float* c, int64_t cRow, int64_t depth,
                 const float* scale) {
  F32 sum[R][V];
  PLINTH_ATTENTION_UNROLL
  for (int r = 0; r < R; r++) {
    PLINTH_ATTENTION_UNROLL
    for (int v = 0; v < V; v++) {
      if constexpr (start == Start::Zero) sum[r][v] = simd::zero();
      else sum[r][v] = simd::load(c + r * cRow + v * kLanes);
      if constexpr (start == Start::Scale) sum[r][v] = sum[r][v] * simd::splat(scale[r]);
    }
  }
  const Word* a = left.data;
  for (int64_t p = 0; p < depth; p++) {
    decltype(loadWords(right)) b[V];
    PLINTH_ATTENTION_UNROLL
    for (int v = 0; v < V; v++) b[v] = loadWords(right + v * kLanes);
    PLINTH_ATTENTION_UNROLL
    for (int r = 0; r < R; r++) {
      const auto x = splatWord(a[r * left.row]);
      PLINTH_ATTENTION_UNROLL
      for (int v = 0; v < V; v++) sum[r][v] = multiplyAdd(x, b[v], sum[r][v]);
    }
    a += left.step;
    right += rightStep;
  }
  PLINTH_ATTENTION_UNROLL
  for (int r = 0; r < R; r++) {
    PLINTH_ATTENTION_UNROLL
    for (int v = 0; v < V; v++) simd::store(c + r * cRow + v * kLanes, sum[r][v]);
  }
}

template <Start start, int R, typename Word>
inline void tileRow(Left<Word> left, const Word* right, int64_t rightStep, float* c, int64_t cRow, int64_t depth,
                    int64_t vectors, const float* scale) {
  // Shares as even as they can be: a narrow tile waits for its own sums.
  for (int64_t parts = (vectors + kTileVectors - 1) / kTileVectors; parts > 0; parts--) {
    const int64_t n = (vectors + parts - 1) / parts;
    switch (n) {
      case 1: tile<start, R, 1>(left, right, rightStep, c, cRow, depth, scale); break;
      case 2: tile<start, R, 2>(left, right, rightStep, c, cRow, depth, scale); break;
      case 3:
        if constexpr (kTileVectors >= 3) tile<start, R, 3>(left, right, rightStep, c, cRow, depth, scale);
        break;
      case 4:
        if constexpr (kTileVectors >= 4) tile<start, R, 4>(left, right, rightStep, c, cRow, depth, scale);
        break;
    }
    vectors -= n;
    right += n * kLanes;
    c += n * kLanes;
  }
}

/** {@link tile} for up to kTileRows rows and any number of whole vectors of columns. */
template <Start start, typename Word>
inline void multiplyRows(int rows, Left<Word> left, const Word* right, int64_t rightStep, float* c, int64_t cRow,
                         int64_t depth, int64_t vectors, const float* scale = nullptr) {
  switch (rows) {
    case 1: return tileRow<start, 1>(left, right, rightStep, c, cRow, depth, vectors, scale);
    case 2: return tileRow<start, 2>(left, right, rightStep, c, cRow, depth, vectors, scale);
    case 3: return tileRow<start, 3>(left, right, rightStep, c, cRow, depth, vectors, scale);
    case 4: return tileRow<start, 4>(left, right, rightStep, c, cRow, depth, vectors, scale);
    case 5: return tileRow<start, 5>(left, right, rightStep, c, cRow, depth, vectors, scale);
    case 6: return tileRow<start, 6>(left, right, rightStep, c, cRow, depth, vectors, scale);
  }
  static_assert(kTileRows == 6);
}

}  // namespace plinth::attention
