// What the attention kernels share: small register-tiled matrix products over unpacked operands, packing of key blocks,
// and which keys each query may see.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "../kernel.h"
#include "../simd_math.h"
#include "transpose.h"

namespace plinth::attention {

using simd::F32;
using simd::kLanes;

// Keys are taken in blocks of this many, counted from key 0: the unit of the online softmax, so part of the results' bits.
constexpr int kKeys = 64;

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

inline int64_t roundUpToLanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/** A matrix operand whose elements are read one by one: element (r, p) is at data[r * row + p * step]. */
struct Left {
  const float* data;
  int64_t row, step;
};

/** What the sums start from: nothing, what is there, or what is there times a factor per row. */
enum class Start { Zero, Add, Scale };

// c[r][n] = start + sum over p (in order, one fused multiply-add each) of left(r, p) * right[p][n], for R rows and
// V vectors of columns. Every element is summed alike whatever the tile, so tiles change no bits.
template <Start start, int R, int V>
inline void tile(Left left, const float* right, int64_t rightStep, float* c, int64_t cRow, int64_t depth,
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
  const float* a = left.data;
  for (int64_t p = 0; p < depth; p++) {
    F32 b[V];
    PLINTH_ATTENTION_UNROLL
    for (int v = 0; v < V; v++) b[v] = simd::load(right + v * kLanes);
    PLINTH_ATTENTION_UNROLL
    for (int r = 0; r < R; r++) {
      const F32 x = simd::splat(a[r * left.row]);
      PLINTH_ATTENTION_UNROLL
      for (int v = 0; v < V; v++) sum[r][v] = simd::fma(x, b[v], sum[r][v]);
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

template <Start start, int R>
inline void tileRow(Left left, const float* right, int64_t rightStep, float* c, int64_t cRow, int64_t depth,
                    int64_t vectors, const float* scale) {
  int64_t v = 0;
  for (; v + kTileVectors <= vectors; v += kTileVectors) {
    tile<start, R, kTileVectors>(left, right + v * kLanes, rightStep, c + v * kLanes, cRow, depth, scale);
  }
  for (; v < vectors; v++) {
    tile<start, R, 1>(left, right + v * kLanes, rightStep, c + v * kLanes, cRow, depth, scale);
  }
}

/** {@link tile} for up to kTileRows rows and any number of whole vectors of columns. */
template <Start start>
inline void multiplyRows(int rows, Left left, const float* right, int64_t rightStep, float* c, int64_t cRow, int64_t depth,
                         int64_t vectors, const float* scale = nullptr) {
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

/** to[k][j] = from[j][k] for `keys` <= kKeys rows of `width` elements; the other columns of `to` become 0. */
inline void packTransposed(const float* from, int64_t fromRow, int64_t keys, int64_t width, float* to) {
  for (int64_t j = 0; j < kKeys; j += kLanes) {
    const int64_t rows = std::clamp<int64_t>(keys - j, 0, kLanes);
    for (int64_t k = 0; k < width; k += kLanes) {
      const int columns = static_cast<int>(std::min<int64_t>(kLanes, width - k));
      F32 block[kLanes];
      for (int64_t r = 0; r < kLanes; r++) {
        block[r] = r < rows ? simd::loadUpTo(from + (j + r) * fromRow + k, columns) : simd::zero();
      }
      simd::transposeBlock(block);
      for (int c = 0; c < columns; c++) simd::store(to + (k + c) * kKeys + j, block[c]);
    }
  }
}

/** Copies a row of `width` elements times `scale`, padded with zeros to whole vectors. */
inline void packRow(const float* from, int64_t width, float scale, float* to) {
  const F32 s = simd::splat(scale);
  for (int64_t k = 0; k < width; k += kLanes) {
    simd::store(to + k, simd::loadUpTo(from + k, static_cast<int>(std::min<int64_t>(kLanes, width - k))) * s);
  }
}

/** Rows whose width is whole vectors are used where they are; others are copied with padding to `pad`. */
struct Rows {
  const float* data;
  int64_t row;
};
inline Rows paddedRows(const float* from, int64_t fromRow, int64_t rows, int64_t width, float* pad) {
  const int64_t padded = roundUpToLanes(width);
  if (padded == width) return {from, fromRow};
  for (int64_t i = 0; i < rows; i++) packRow(from + i * fromRow, width, 1.0f, pad + i * padded);
  return {pad, padded};
}

/** Sizes, operands and masks of a call. */
struct Problem {
  int64_t B, T, H, K, S, G;
  int64_t share;  // query heads per key-value head
  Tensor q, k, v;
  bool causal;
  int64_t window;
  const int32_t *start, *qSegments, *kSegments;
  float scale;

  // Inputs 0..2 are q, k, v; `optional` is the index of the first optional one.
  Problem(const char* name, const KernelArgs& args, int optional) : q(args.in[0]), k(args.in[1]), v(args.in[2]) {
    const std::string prefix = std::string(name) + ": ";
    require(args.nInts == 5 && args.nFloats == 1,
            prefix + "expected [causal, hasStart, hasSegments, window, operands] and [scale]");
    require(q.rank == 4 && k.rank == 4 && v.rank == 4, prefix + "expected q[B,T,H,K], k[B,S,G,K], v[B,S,G,K]");
    for (const Tensor* t : {&q, &k, &v}) {
      require(t->dtype == DType::Float32, prefix + "expected float32");
      require(t->strides[3] == 1 || t->shape[3] <= 1, prefix + "expected contiguous heads");
    }
    B = q.shape[0], T = q.shape[1], H = q.shape[2], K = q.shape[3], S = k.shape[1], G = k.shape[2];
    require(G > 0 ? H % G == 0 : H == 0, prefix + "expected a number of heads that the key-value heads divide");
    share = G > 0 ? H / G : 0;
    causal = args.ints[0] != 0;
    window = args.ints[3];
    scale = static_cast<float>(args.floats[0]);
    start = args.ints[1] != 0 ? args.in[optional++].as<int32_t>() : nullptr;
    qSegments = args.ints[2] != 0 ? args.in[optional].as<int32_t>() : nullptr;
    kSegments = args.ints[2] != 0 ? args.in[optional + 1].as<int32_t>() : nullptr;
  }

  /** Queries that share a key-value head are numbered t * share + (head within the group). */
  int64_t rows() const { return T * share; }
  const float* queryIn(const Tensor& x, int64_t b, int64_t g, int64_t row) const {
    return x.as<float>() + b * x.strides[0] + row / share * x.strides[1] + (g * share + row % share) * x.strides[2];
  }
  /** Index of a query's row in row-major [B,T,H] and [B,H,T]. */
  int64_t indexBTH(int64_t b, int64_t g, int64_t row) const { return (b * T + row / share) * H + g * share + row % share; }
  int64_t indexBHT(int64_t b, int64_t g, int64_t row) const { return (b * H + g * share + row % share) * T + row / share; }
  const float* keys(const Tensor& x, int64_t b, int64_t g) const {
    return x.as<float>() + b * x.strides[0] + g * x.strides[2];
  }
};

/** The keys that a query may see: those of [low, high), and of its segment if there are segments. */
struct Sight {
  int64_t low, high;
  int32_t segment;

  Sight() = default;
  Sight(const Problem& p, int64_t b, int64_t t) : low(0), high(p.S), segment(0) {
    if (p.causal) {
      const int64_t position = (p.start != nullptr ? p.start[b] : 0) + t;
      high = std::clamp<int64_t>(position + 1, 0, p.S);
      if (p.window > 0) low = std::max<int64_t>(0, position - p.window + 1);
    }
    if (p.kSegments != nullptr) {
      // Documents lie in a row: closing in on the first and last key of the segment skips the blocks of the others.
      segment = p.qSegments[b * p.T + t];
      const int32_t* ids = p.kSegments + b * p.S;
      while (low < high && ids[low] != segment) low++;
      while (low < high && ids[high - 1] != segment) high--;
    }
    if (low >= high) low = high = 0;
  }
  bool empty() const { return low >= high; }
};

/** -inf where keys [at, at + kLanes) of the batch row are out of sight. */
inline F32 maskScores(F32 scores, const Sight& sight, int64_t at, const int32_t* segments, int64_t S) {
  using namespace simd;
  const F32 minusInfinity = splat(-kInfinity);
  if (at < sight.low || at + kLanes > sight.high) {
    const I32 key = iota() + splatInt(static_cast<int32_t>(at));
    const Mask seen = greater(key, splatInt(static_cast<int32_t>(sight.low - 1))) &
                      greater(splatInt(static_cast<int32_t>(sight.high)), key);
    scores = select(seen, scores, minusInfinity);
  }
  if (segments != nullptr) {
    const int count = static_cast<int>(std::min<int64_t>(kLanes, S - at));
    const I32 ids = count >= kLanes ? loadInt(segments + at) : loadIntPartial(segments + at, std::max(count, 0));
    scores = select(equal(ids, splatInt(sight.segment)), scores, minusInfinity);
  }
  return scores;
}

}  // namespace plinth::attention
