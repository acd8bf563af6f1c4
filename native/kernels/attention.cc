// Attention without the score matrix (online softmax: Milakov & Gimelshein 2018; Dao et al. 2022). Contract: KERNELS.md
// ("attention"). A query's result is a function of its own row and the keys alone: keys come in blocks counted from key 0
// and each sum runs over them in order, so decoding one token gives the bits of the full pass.
#include <cmath>

#include "attention_convert.h"
#include "attention_tile.h"

namespace plinth {
namespace {

using namespace attention;
using namespace simd;

// About how many queries share one packing of the keys. Changes no bits.
constexpr int64_t kQueryBlock = 128;

struct Work {
  float *query, *result, *top, *total, *keysT, *values, *scores;
  Sight* sight;

  Work(int64_t rows, int64_t width) {
    const int64_t padded = roundUpToLanes(width);
    const int64_t floats = rows * (2 * padded + 2) + kKeys * (2 * padded) + kTileRows * kKeys + 128;
    auto* at = static_cast<float*>(
        ThreadPool::scratch(floats * 4 + rows * static_cast<int64_t>(sizeof(Sight)) + 64));
    const auto take = [&](int64_t n) {
      float* p = at;
      at += (n + 15) / 16 * 16;
      return p;
    };
    keysT = take(kKeys * padded);
    values = take(kKeys * padded);
    scores = take(kTileRows * kKeys);
    query = take(rows * padded);
    result = take(rows * padded);
    top = take(rows);
    total = take(rows);
    sight = reinterpret_cast<Sight*>(at);
  }
};

// Scores to weights for a tile of queries and the keys [firstKey + begin, firstKey + end): p = exp(s - top), with the
// running tops and totals brought up to date. `factor` is for what was summed under the old tops.
void softmaxTile(const Problem& p, const Work& w, int64_t row, int rows, int64_t firstKey, int64_t begin, int64_t end,
                 const int32_t* segments, float* factor) {
  alignas(64) float fall[kTileRows + kLanes] = {};
  float shift[kTileRows];
  for (int i = 0; i < rows; i++) {
    float* scores = w.scores + i * kKeys;
    const Sight& sight = w.sight[row + i];
    F32 best = splat(-kInfinity);
    if (segments == nullptr && sight.low <= firstKey + begin && sight.high >= firstKey + end) {
      for (int64_t j = begin; j < end; j += kLanes) best = max(load(scores + j), best);
    } else {
      for (int64_t j = begin; j < end; j += kLanes) {
        const F32 s = maskScores(load(scores + j), sight, firstKey + j, segments, p.S);
        store(scores + j, s);
        best = max(s, best);
      }
    }
    float& top = w.top[row + i];
    const float newTop = std::max(top, reduceMax(best));
    // Nothing seen yet: exp(-inf - 0) gives the zeros wanted, and NaN stays NaN.
    shift[i] = newTop == -kInfinity ? 0.0f : newTop;
    fall[i] = top - shift[i];
    top = newTop;
  }
  for (int i = 0; i < rows; i += kLanes) storeUpTo(factor + i, simd::exp(load(fall + i)), rows - i);
  for (int i = 0; i < rows; i++) {
    float* scores = w.scores + i * kKeys;
    const F32 top = splat(shift[i]);
    F32 sum = zero();
    for (int64_t j = begin; j < end; j += kLanes) {
      const F32 weight = simd::exp(load(scores + j) - top);
      store(scores + j, weight);
      sum = sum + weight;
    }
    w.total[row + i] = w.total[row + i] * factor[i] + reduceAdd(sum);
  }
}

// Adds the keys [firstKey, firstKey + kKeys) to a tile of queries.
void attendTile(const Problem& p, const Work& w, int64_t row, int rows, int64_t firstKey, Rows values,
                const int32_t* segments) {
  const int64_t padded = roundUpToLanes(p.K);
  int64_t low = kKeys, high = 0;
  for (int i = 0; i < rows; i++) {
    const Sight& s = w.sight[row + i];
    if (s.low >= firstKey + kKeys || s.high <= firstKey) continue;
    low = std::min(low, std::max<int64_t>(0, s.low - firstKey));
    high = std::max(high, std::min<int64_t>(kKeys, s.high - firstKey));
  }
  if (low >= high) return;
  // Whole vectors of keys; the others would only add exact zeros.
  const int64_t begin = low / kLanes * kLanes, end = roundUpToLanes(high);
  multiplyRows<Start::Zero>(rows, {w.query + row * padded, padded, 1}, w.keysT + begin, kKeys, w.scores + begin, kKeys, p.K,
                            (end - begin) / kLanes);
  float factor[kTileRows];  // of the sums so far
  softmaxTile(p, w, row, rows, firstKey, begin, end, segments, factor);
  multiplyRows<Start::Scale>(rows, {w.scores + low, kKeys, 1}, values.data + low * values.row, values.row,
                             w.result + row * padded, padded, high - low, padded / kLanes, factor);
}

// Queries [first, first + count) of a key-value head.
void attendBlock(const Problem& p, const KernelArgs& args, int64_t b, int64_t g, int64_t first, int64_t count) {
  const int64_t padded = roundUpToLanes(p.K);
  const Work w(count, p.K);
  int64_t low = p.S, high = 0;
  for (int64_t i = 0; i < count; i++) {
    packRow(p.queryIn(p.q, b, g, first + i), p.K, p.scale, w.query + i * padded);
    std::fill_n(w.result + i * padded, padded, 0.0f);
    w.top[i] = -kInfinity;
    w.total[i] = 0.0f;
    const bool sameToken = i > 0 && (first + i) % p.share != 0;
    w.sight[i] = sameToken ? w.sight[i - 1] : Sight(p, b, (first + i) / p.share);
    if (w.sight[i].empty()) continue;
    low = std::min(low, w.sight[i].low);
    high = std::max(high, w.sight[i].high);
  }
  const float *keys = p.keys(p.k, b, g), *values = p.keys(p.v, b, g);
  const int32_t* segments = p.kSegments != nullptr ? p.kSegments + b * p.S : nullptr;
  for (int64_t key = low / kKeys * kKeys; key < high; key += kKeys) {
    const int64_t n = std::min<int64_t>(kKeys, p.S - key);
    packTransposed(keys + key * p.k.strides[1], p.k.strides[1], n, p.K, w.keysT);
    const Rows block = paddedRows(values + key * p.v.strides[1], p.v.strides[1], n, p.K, w.values);
    for (int64_t row = 0; row < count; row += kTileRows) {
      attendTile(p, w, row, static_cast<int>(std::min<int64_t>(kTileRows, count - row)), key, block, segments);
    }
  }
  for (int64_t i = 0; i < count; i++) {
    float* out = args.out[0].as<float>() + p.indexBTH(b, g, first + i) * p.K;
    const float total = w.total[i];
    const F32 factor = splat(total == 0.0f ? 0.0f : 1.0f / total);
    for (int64_t k = 0; k < p.K; k += kLanes) {
      // + 0 turns -0 into 0: keys out of sight may or may not have been added as exact zeros.
      const F32 x = load(w.result + i * padded + k) * factor + zero();
      storeUpTo(out + k, x, static_cast<int>(std::min<int64_t>(kLanes, p.K - k)));
    }
    args.out[1].as<float>()[p.indexBHT(b, g, first + i)] =
        w.top[i] + static_cast<float>(std::log(static_cast<double>(total)));
  }
}

void attentionForward(const KernelArgs& args) {
  require(args.nIn >= 3 && args.nOut == 2, "attention: expected q, k, v and two outputs");
  const Problem p("attention", args, 3);
  if (p.B * p.T * p.H == 0) return;
  // Even blocks of whole tiles.
  const int64_t wanted = (p.rows() + kQueryBlock - 1) / kQueryBlock;
  const int64_t size = ((p.rows() + wanted - 1) / wanted + kTileRows - 1) / kTileRows * kTileRows;
  const int64_t blocks = (p.rows() + size - 1) / size;
  args.pool.parallelFor(p.B * p.G * blocks, [&](int64_t task) {
    // Late queries see more keys: they go first, so that the threads end together.
    const int64_t block = blocks - 1 - task / (p.B * p.G);
    const int64_t b = task / p.G % p.B, g = task % p.G;
    const int64_t first = block * size;
    attendBlock(p, args, b, g, first, std::min(size, p.rows() - first));
  });
}

void attentionForwardAny(const KernelArgs& args) {
  const bool rounded = args.nInts == 5 && args.ints[4] != 0;
  withFloat32(args, 3, rounded, attentionForward);
}

PLINTH_KERNEL("attention", attentionForwardAny);

}  // namespace
}  // namespace plinth
