// Gradient of attention: the weights are computed again block by block from the saved log-sum-exp (Dao et al. 2022).
// Contract: KERNELS.md ("attention_grad"). One task owns a key-value head with all its queries, so every sum runs in a
// fixed order.
#include <cmath>

#include "attention_convert.h"
#include "attention_tile.h"

namespace plinth {
namespace {

using namespace attention;
using namespace simd;

// Queries whose weights are held at a time.
constexpr int64_t kQueries = 48;

struct Work {
  float *query, *dout, *dquery, *lse, *delta;                  // [rows][padded] (query times scale), [rows]
  float *keysT, *valuesT, *keys, *dkeys, *dvalues;             // [K][kKeys] and [kKeys][padded]
  float *weights, *dscores;                                    // [kQueries][kKeys]
  Sight* sight;

  Work(int64_t rows, int64_t width) {
    const int64_t padded = roundUpToLanes(width);
    const int64_t floats = rows * (3 * padded + 2) + 5 * kKeys * padded + 2 * kQueries * kKeys + 128;
    auto* at = static_cast<float*>(
        ThreadPool::scratch(floats * 4 + rows * static_cast<int64_t>(sizeof(Sight)) + 64));
    const auto take = [&](int64_t n) {
      float* p = at;
      at += (n + 15) / 16 * 16;
      return p;
    };
    keysT = take(kKeys * padded);
    valuesT = take(kKeys * padded);
    keys = take(kKeys * padded);
    dkeys = take(kKeys * padded);
    dvalues = take(kKeys * padded);
    weights = take(kQueries * kKeys);
    dscores = take(kQueries * kKeys);
    query = take(rows * padded);
    dout = take(rows * padded);
    dquery = take(rows * padded);
    lse = take(rows);
    delta = take(rows);
    sight = reinterpret_cast<Sight*>(at);
  }
};

// Keys of a block that a tile of queries sees, as [low, high); empty when low >= high.
struct Span {
  int64_t low = kKeys, high = 0;
  void include(const Sight& s, int64_t firstKey) {
    if (s.low >= firstKey + kKeys || s.high <= firstKey) return;
    low = std::min(low, std::max<int64_t>(0, s.low - firstKey));
    high = std::max(high, std::min<int64_t>(kKeys, s.high - firstKey));
  }
  bool empty() const { return low >= high; }
};

// weights = exp(scores - lse), dscores = weights (dweights - delta), for one query; 0 on the keys outside [begin, end).
void weightRow(const Problem& p, const Sight& sight, const int32_t* segments, int64_t firstKey, int64_t begin, int64_t end,
               float lse, float delta, float* weights, float* dscores) {
  const F32 shift = splat(lse), d = splat(delta);
  const bool whole = segments == nullptr && sight.low <= firstKey + begin && sight.high >= firstKey + end;
  for (int64_t j = 0; j < begin; j += kLanes) {
    store(weights + j, zero());
    store(dscores + j, zero());
  }
  for (int64_t j = begin; j < end; j += kLanes) {
    F32 s = load(weights + j);
    if (!whole) s = maskScores(s, sight, firstKey + j, segments, p.S);
    const F32 w = simd::exp(s - shift);
    store(weights + j, w);
    store(dscores + j, w * (load(dscores + j) - d));
  }
  for (int64_t j = end; j < kKeys; j += kLanes) {
    store(weights + j, zero());
    store(dscores + j, zero());
  }
}

// Adds what queries [row, row + count) and keys [firstKey, firstKey + kKeys) do to each other's gradients.
void gradBlock(const Problem& p, const Work& w, int64_t row, int64_t count, int64_t firstKey, Rows keys,
               const int32_t* segments) {
  const int64_t padded = roundUpToLanes(p.K), vectors = padded / kLanes;
  Span all;
  for (int64_t i = 0; i < count; i++) all.include(w.sight[row + i], firstKey);
  if (all.empty()) return;
  // Per tile of queries: scores, weights and the queries' gradients, on the keys that it sees.
  for (int64_t i = 0; i < count; i += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, count - i));
    float *weights = w.weights + i * kKeys, *dscores = w.dscores + i * kKeys;
    Span span;
    for (int r = 0; r < rows; r++) span.include(w.sight[row + i + r], firstKey);
    if (span.empty()) {
      std::memset(weights, 0, static_cast<size_t>(rows) * kKeys * 4);
      std::memset(dscores, 0, static_cast<size_t>(rows) * kKeys * 4);
      continue;
    }
    const int64_t begin = span.low / kLanes * kLanes, end = roundUpToLanes(span.high), n = (end - begin) / kLanes;
    const int64_t at = (row + i) * padded;
    multiplyRows<Start::Zero>(rows, {w.query + at, padded, 1}, w.keysT + begin, kKeys, weights + begin, kKeys, p.K, n);
    multiplyRows<Start::Zero>(rows, {w.dout + at, padded, 1}, w.valuesT + begin, kKeys, dscores + begin, kKeys, p.K, n);
    for (int r = 0; r < rows; r++) {
      weightRow(p, w.sight[row + i + r], segments, firstKey, begin, end, w.lse[row + i + r], w.delta[row + i + r],
                weights + r * kKeys, dscores + r * kKeys);
    }
    multiplyRows<Start::Add>(rows, {dscores + span.low, kKeys, 1}, keys.data + span.low * keys.row, keys.row,
                             w.dquery + at, padded, span.high - span.low, vectors);
  }
  // Per tile of keys: their gradients, from the queries that see them.
  for (int64_t j = all.low / kTileRows * kTileRows; j < all.high; j += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, kKeys - j));
    int64_t first = count, last = 0;
    for (int64_t i = 0; i < count; i++) {
      const Sight& s = w.sight[row + i];
      if (s.low >= firstKey + j + rows || s.high <= firstKey + j) continue;
      first = std::min(first, i);
      last = i + 1;
    }
    if (first >= last) continue;
    const int64_t at = (row + first) * padded;
    multiplyRows<Start::Add>(rows, {w.weights + first * kKeys + j, 1, kKeys}, w.dout + at, padded, w.dvalues + j * padded,
                             padded, last - first, vectors);
    multiplyRows<Start::Add>(rows, {w.dscores + first * kKeys + j, 1, kKeys}, w.query + at, padded, w.dkeys + j * padded,
                             padded, last - first, vectors);
  }
}

void loadQueries(const Problem& p, const KernelArgs& args, const Work& w, int64_t b, int64_t g) {
  const int64_t padded = roundUpToLanes(p.K);
  const float *out = args.in[3].as<float>(), *lse = args.in[4].as<float>(), *dout = args.in[5].as<float>();
  for (int64_t i = 0; i < p.rows(); i++) {
    const int64_t at = p.indexBTH(b, g, i) * p.K;
    packRow(p.queryIn(p.q, b, g, i), p.K, p.scale, w.query + i * padded);
    packRow(dout + at, p.K, 1.0f, w.dout + i * padded);
    std::fill_n(w.dquery + i * padded, padded, 0.0f);
    F32 sum = zero();
    for (int64_t k = 0; k < p.K; k += kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, p.K - k));
      sum = simd::fma(loadUpTo(out + at + k, lanes), loadUpTo(dout + at + k, lanes), sum);
    }
    w.delta[i] = reduceAdd(sum);
    w.lse[i] = lse[p.indexBHT(b, g, i)];
    w.sight[i] = i > 0 && i % p.share != 0 ? w.sight[i - 1] : Sight(p, b, i / p.share);
    if (w.lse[i] == -kInfinity) {
      w.sight[i].low = w.sight[i].high = 0;  // saw nothing
      w.lse[i] = 0.0f;
    }
  }
}

void storeRow(float* to, const float* from, int64_t width) { std::memcpy(to, from, static_cast<size_t>(width) * 4); }

void gradHead(const Problem& p, const KernelArgs& args, int64_t b, int64_t g) {
  const int64_t padded = roundUpToLanes(p.K), rows = p.rows();
  const Work w(rows, p.K);
  loadQueries(p, args, w, b, g);
  const float *keys = p.keys(p.k, b, g), *values = p.keys(p.v, b, g);
  const int32_t* segments = p.kSegments != nullptr ? p.kSegments + b * p.S : nullptr;
  for (int64_t key = 0; key < p.S; key += kKeys) {
    const int64_t n = std::min<int64_t>(kKeys, p.S - key);
    packTransposed(keys + key * p.k.strides[1], p.k.strides[1], n, p.K, w.keysT);
    packTransposed(values + key * p.v.strides[1], p.v.strides[1], n, p.K, w.valuesT);
    const Rows block = paddedRows(keys + key * p.k.strides[1], p.k.strides[1], n, p.K, w.keys);
    std::fill_n(w.dkeys, kKeys * padded, 0.0f);
    std::fill_n(w.dvalues, kKeys * padded, 0.0f);
    for (int64_t row = 0; row < rows; row += kQueries) {
      gradBlock(p, w, row, std::min(kQueries, rows - row), key, block, segments);
    }
    for (int64_t j = 0; j < n; j++) {
      const int64_t at = ((b * p.S + key + j) * p.G + g) * p.K;
      storeRow(args.out[1].as<float>() + at, w.dkeys + j * padded, p.K);
      storeRow(args.out[2].as<float>() + at, w.dvalues + j * padded, p.K);
    }
  }
  for (int64_t i = 0; i < rows; i++) {
    // The scores' scale went into the queries: the keys' gradients have it already.
    packRow(w.dquery + i * padded, p.K, p.scale, w.dquery + i * padded);
    storeRow(args.out[0].as<float>() + p.indexBTH(b, g, i) * p.K, w.dquery + i * padded, p.K);
  }
}

void attentionGrad(const KernelArgs& args) {
  require(args.nIn >= 6 && args.nOut == 3, "attention_grad: expected q, k, v, out, lse, dout and three outputs");
  const Problem p("attention_grad", args, 6);
  args.pool.parallelFor(p.B * p.G, [&](int64_t task) { gradHead(p, args, task / p.G, task % p.G); });
}

void attentionGradAny(const KernelArgs& args) {
  const bool rounded = args.nInts == 5 && args.ints[4] != 0;
  withFloat32(args, 6, rounded, attentionGrad);
}

PLINTH_KERNEL("attention_grad", attentionGradAny);

}  // namespace
}  // namespace plinth
