// Attention without the score matrix (online softmax: Milakov & Gimelshein 2018; Dao et al. 2022). Contract: KERNELS.md
// ("attention"). A query's result is a function of its own row and the keys alone: keys come in blocks counted from key 0
// and each sum runs over them in order, so decoding one token gives the bits of the full pass.
#include <cmath>

#include "attention_tile.h"

namespace plinth {
namespace {

using namespace attention;
using namespace simd;

// Queries that share one packing of the keys. Changes no bits.
constexpr int64_t kQueryBlock = 126;

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

// Scores to weights for one query and one block of keys: p = exp(s - top), with the running top and total brought up to
// date. Returns the factor for what was summed under the old top.
float softmaxRow(float* scores, const Problem& p, const Sight& sight, const int32_t* segments, int64_t firstKey,
                 int64_t begin, int64_t end, float& top, float& total) {
  const F32 scale = splat(p.scale);
  F32 best = splat(-kInfinity);
  for (int64_t j = begin; j < end; j += kLanes) {
    const F32 s = maskScores(load(scores + j) * scale, sight, firstKey + j, segments, p.S);
    store(scores + j, s);
    best = max(s, best);
  }
  const float newTop = std::max(top, reduceMax(best));
  if (newTop == -kInfinity) {
    // Nothing seen so far, unless the scores are NaN, which max() passes over.
    for (int64_t j = begin; j < end; j += kLanes) {
      const F32 s = load(scores + j);
      if (any(notEqual(s, s))) {
        total = std::numeric_limits<float>::quiet_NaN();
        top = 0.0f;
      }
      store(scores + j, zero());
    }
    return 1.0f;
  }
  F32 sum = zero();
  const F32 shift = splat(newTop);
  for (int64_t j = begin; j < end; j += kLanes) {
    const F32 weight = simd::exp(load(scores + j) - shift);
    store(scores + j, weight);
    sum = sum + weight;
  }
  float factor = 1.0f;
  if (newTop != top) {
    float lanes[kLanes];
    store(lanes, simd::exp(splat(top - newTop)));
    factor = lanes[0];
  }
  total = total * factor + reduceAdd(sum);
  top = newTop;
  return factor;
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
  float factor[kTileRows];
  for (int i = 0; i < rows; i++) {
    factor[i] = softmaxRow(w.scores + i * kKeys, p, w.sight[row + i], segments, firstKey, begin, end, w.top[row + i],
                           w.total[row + i]);
  }
  multiplyRows<Start::Scale>(rows, {w.scores + low, kKeys, 1}, values.data + low * values.row, values.row,
                             w.result + row * padded, padded, high - low, padded / kLanes, factor);
}

// Queries [first, first + count) of a key-value head.
void attendBlock(const Problem& p, const KernelArgs& args, int64_t b, int64_t g, int64_t first, int64_t count) {
  const int64_t padded = roundUpToLanes(p.K);
  const Work w(count, p.K);
  int64_t low = p.S, high = 0;
  for (int64_t i = 0; i < count; i++) {
    packRow(p.queryIn(p.q, b, g, first + i), p.K, w.query + i * padded);
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
    const F32 factor = splat(w.top[i] == -kInfinity ? 0.0f : 1.0f / total);
    for (int64_t k = 0; k < p.K; k += kLanes) {
      // + 0 turns -0 into 0: keys out of sight may or may not have been added as exact zeros.
      const F32 x = load(w.result + i * padded + k) * factor + zero();
      storeUpTo(out + k, x, static_cast<int>(std::min<int64_t>(kLanes, p.K - k)));
    }
    args.out[1].as<float>()[p.indexBHT(b, g, first + i)] =
        w.top[i] == -kInfinity ? -kInfinity : w.top[i] + static_cast<float>(std::log(static_cast<double>(total)));
  }
}

void attentionForward(const KernelArgs& args) {
  require(args.nIn >= 3 && args.nOut == 2, "attention: expected q, k, v and two outputs");
  const Problem p("attention", args, 3);
  if (p.B * p.T * p.H == 0) return;
  const int64_t blocks = (p.rows() + kQueryBlock - 1) / kQueryBlock;
  args.pool.parallelFor(p.B * p.G * blocks, [&](int64_t task) {
    // Late queries see more keys: they go first, so that the threads end together.
    const int64_t block = blocks - 1 - task / (p.B * p.G);
    const int64_t b = task / p.G % p.B, g = task % p.G;
    const int64_t first = block * kQueryBlock;
    attendBlock(p, args, b, g, first, std::min(kQueryBlock, p.rows() - first));
  });
}

PLINTH_KERNEL("attention", attentionForward);

}  // namespace
}  // namespace plinth
