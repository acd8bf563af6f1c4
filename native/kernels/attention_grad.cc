// Gradient of attention: the weights are computed again block by block from the saved log-sum-exp (Dao et al. 2022).
// Contract: KERNELS.md ("attention_grad"). Queries are taken in panels; the sums of the keys' gradients run over a panel in
// order, over the panels of a slot in order, and over the slots in order. Sizes alone decide which panel is whose, so any
// number of threads gives the same bits.
#include "attention_problem.h"

namespace plinth {
namespace {

using namespace attention;
using namespace simd;

constexpr int64_t kPanel = 512;

/** Sums of keys' gradients that may be under way at once for a key-value head. `attentionWorkspace` in TypeScript agrees. */
int64_t slotsOf(const Problem& p) {
  const int64_t panels = (p.rows() + kPanel - 1) / kPanel;
  return std::max<int64_t>(1, std::min(panels, (16 + p.G - 1) / std::max<int64_t>(p.G, 1)));
}

/** Transposed scores have queries in their columns: what is known of each, and of a block of them. */
struct Columns {
  int32_t *low, *high, *segment;  // keys in sight
  float *lse, *delta;             // lse in units of ln 2
};

template <typename P>
struct Work {
  using Word = typename P::Word;
  // Of the panel: right operands transposed by block of queries, and by pairs of rows; gradient of the queries.
  Word *queryT, *doutT, *query, *dout;
  float* dquery;
  Columns columns;
  Sight* sight;
  // Of the block of keys.
  Word *keysPad, *valuesPad, *keyPairs;
  float *dkeys, *dvalues;
  // Of a tile of keys.
  float *scores, *dweights, *extra, *extraT, *keptT;
  Word *weights, *dscores, *dscorePairs, *pad;

  Work(Arena& a, int64_t rows, int64_t width) {
    const int64_t blocks = (rows + kBlock - 1) / kBlock, all = blocks * kBlock, padded = roundUpToLanes(width);
    const int64_t words = rowWords<P>(width), depth = depthWords<P>(width);
    queryT = a.take<Word>(blocks * depth * kBlock);
    doutT = a.take<Word>(blocks * depth * kBlock);
    query = a.take<Word>(all * padded / P::kDepth);
    dout = a.take<Word>(all * padded / P::kDepth);
    dquery = a.take<float>(all * padded);
    columns.low = a.take<int32_t>(all);
    columns.high = a.take<int32_t>(all);
    columns.segment = a.take<int32_t>(all);
    columns.lse = a.take<float>(all);
    columns.delta = a.take<float>(all);
    sight = a.take<Sight>(all);
    keysPad = a.take<Word>(kBlock * words);
    valuesPad = a.take<Word>(kBlock * words);
    keyPairs = a.take<Word>(kBlock * padded);
    dkeys = a.take<float>(kBlock * padded);
    dvalues = a.take<float>(kBlock * padded);
    scores = a.take<float>(kTileRows * kBlock);
    dweights = a.take<float>(kTileRows * kBlock);
    extra = a.take<float>(kBlock * kBlock);
    extraT = a.take<float>(kBlock * kBlock);
    keptT = a.take<float>(kBlock * kBlock);
    weights = a.take<Word>(kTileRows * kBlock);
    dscores = a.take<Word>(kBlock * kBlock);
    dscorePairs = a.take<Word>(kBlock * kBlock);
    pad = a.take<Word>(kBlock * words);
  }
};

/** Queries [first, first + count) of a key-value head. */
struct Panel {
  int64_t b, g, first, count;
  int64_t blocks() const { return (count + kBlock - 1) / kBlock; }
};

// A row of queries as right operands: transposed, and by pairs of rows.
template <typename P>
void packBlock(const Problem& p, const Work<P>& w, const Panel& q, const Tensor& x, int64_t row, int64_t n,
               typename P::Word* transposed, typename P::Word* pairs) {
  const int64_t words = rowWords<P>(p.K), padded = roundUpToLanes(p.K);
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = q.first + row + i;
    if (at + kRowsAhead < q.first + q.count) prefetchRow(x, p.queryAt(x, q.b, q.g, at + kRowsAhead), p.K);
    packRow<P>(x, p.queryAt(x, q.b, q.g, at), p.K, w.pad + i * words);
  }
  const Rows<typename P::Word> rows{w.pad, words};
  transposeRows(rows, n, depthWords<P>(p.K), transposed);
  const auto block = interleaveRows(rows, n, padded, pairs);
  if (block.data != pairs) std::copy_n(block.data, n * words, pairs);
  const int64_t used = (n + P::kDepth - 1) / P::kDepth * padded;
  std::fill_n(pairs + used, kBlock / P::kDepth * padded - used, typename P::Word{});
}

template <typename P>
void loadPanel(const Problem& p, const KernelArgs& args, const Work<P>& w, const Panel& q) {
  const int64_t padded = roundUpToLanes(p.K), depth = depthWords<P>(p.K), all = q.blocks() * kBlock;
  const Tensor &out = args.in[3], &dout = args.in[5];
  const float* lse = args.in[4].as<float>();
  for (int64_t row = 0; row < q.count; row += kBlock) {
    const int64_t n = std::min<int64_t>(kBlock, q.count - row), pairs = row / P::kDepth * padded;
    packBlock(p, w, q, p.q, row, n, w.queryT + row * depth, w.query + pairs);
    packBlock(p, w, q, dout, row, n, w.doutT + row * depth, w.dout + pairs);
  }
  std::fill_n(w.dquery, all * padded, 0.0f);
  findSights(p, q.b, q.first, q.count, w.sight);
  const Columns& c = w.columns;
  for (int64_t i = 0; i < all; i++) {
    c.low[i] = c.high[i] = c.segment[i] = 0;
    c.lse[i] = c.delta[i] = 0.0f;
    if (i >= q.count) {
      w.sight[i].low = w.sight[i].high = 0;
      continue;
    }
    const float sum = lse[p.indexBHT(q.b, q.g, q.first + i)];
    if (sum == -kInfinity) w.sight[i].low = w.sight[i].high = 0;  // saw nothing
    else c.lse[i] = sum * kLog2E;
    c.low[i] = static_cast<int32_t>(w.sight[i].low);
    c.high[i] = static_cast<int32_t>(w.sight[i].high);
    c.segment[i] = w.sight[i].segment;
    const int64_t at = p.queryAt(dout, q.b, q.g, q.first + i);
    if (i + kRowsAhead < q.count) prefetchRow(out, p.queryAt(out, q.b, q.g, q.first + i + kRowsAhead), p.K);
    F32 delta = zero();
    withFloat(out.dtype, [&](auto o) {
      withFloat(dout.dtype, [&](auto d) {
        const auto* x = static_cast<const decltype(o)*>(out.data) + at;
        const auto* y = static_cast<const decltype(d)*>(dout.data) + at;
        for (int64_t k = 0; k < p.K; k += kLanes) {
          delta = simd::fma(loadVectorUpTo(x + k, p.K - k), loadVectorUpTo(y + k, p.K - k), delta);
        }
      });
    });
    c.delta[i] = reduceAdd(delta);
  }
}

/** Biases and dropout factors of a block, brought from rows of queries to rows of keys. */
template <typename P>
void loadExtras(const Problem& p, const Work<P>& w, const Panel& q, int64_t row, int64_t count, int64_t firstKey) {
  const int64_t keys = std::min<int64_t>(kBlock, p.S - firstKey);
  if (p.bias != nullptr) {
    for (int64_t i = 0; i < count; i++) {
      p.readBias(q.b, q.g, q.first + row + i, firstKey, keys, w.extra + i * kBlock, kBlock);
    }
    transposeRows(Rows<float>{w.extra, kBlock}, count, kBlock, w.extraT);
  }
  if (p.key != nullptr) {
    for (int64_t i = 0; i < count; i++) {
      p.readDropout(q.b, q.g, q.first + row + i, firstKey, keys, w.extra + i * kBlock);
    }
    transposeRows(Rows<float>{w.extra, kBlock}, count, kBlock, w.keptT);
  }
}

/** Weights and scores' gradients of one key and kLanes queries. */
struct Pair {
  F32 weight, dscore;
};

template <typename P, bool plain>
inline Pair weigh(const Problem& p, const Work<P>& w, const Panel& q, int64_t column, int64_t j, int64_t i, int64_t firstKey,
                  bool whole, F32 unit, F32 product, F32 dweight) {
  const Columns& c = w.columns;
  F32 s = product, slope = splat(1.0f);
  if constexpr (!plain) {
    if (p.isShaped()) {
      s = shapeScore(p, product, p.bias != nullptr ? load(w.extraT + j * kBlock + i) : zero());
      if (p.softCap > 0) {
        const F32 t = simd::tanh(product * splat(p.scale) * splat(1.0f / p.softCap));
        slope = simd::fnma(t, t, slope);
      }
    }
  }
  F32 exponent = simd::fma(s, unit, -load(c.lse + column));
  if (!whole) {
    const I32 key = splatInt(static_cast<int32_t>(firstKey + j));
    Mask hidden = greater(loadInt(c.low + column), key) | !greater(loadInt(c.high + column), key);
    if (p.kSegments != nullptr) {
      const int32_t segment = p.kSegments[q.b * p.S + std::min(firstKey + j, p.S - 1)];
      hidden = hidden | !equal(loadInt(c.segment + column), splatInt(segment));
    }
    exponent = select(hidden, splat(-kInfinity), exponent);
  }
  const F32 weight = exp2(min(splat(128.0f), exponent)), delta = load(c.delta + column);
  if constexpr (plain) {
    return {weight, weight * (dweight - delta)};
  } else {
    const F32 kept = p.key != nullptr ? load(w.keptT + j * kBlock + i) : splat(1.0f);
    return {weight * kept, weight * simd::fma(dweight, kept, -delta) * slope};
  }
}

// Rows j and j + 1 (the second only if it exists) of the transposed weights, from their products.
template <typename P, bool plain>
void weighRows(const Problem& p, const Work<P>& w, const Panel& q, int64_t row, int64_t j, bool second, int64_t at,
               int64_t firstKey, int64_t begin, int64_t end, bool whole) {
  const F32 unit = splat(p.unit());
  const float *scores = w.scores + at * kBlock, *dweights = w.dweights + at * kBlock;
  typename P::Word* weights = w.weights + at * (kBlock / P::kDepth);
  typename P::Word* dscores = w.dscores + (P::kDepth == 2 ? at : j) * (kBlock / P::kDepth);
  for (int64_t i = begin; i < end; i += kLanes) {
    const Pair a = weigh<P, plain>(p, w, q, row + i, j, i, firstKey, whole, unit, load(scores + i), load(dweights + i));
    storeElements<P>(weights, i, a.weight);
    storeElements<P>(dscores, i, a.dscore);
    Pair b{zero(), zero()};
    if (second) {
      b = weigh<P, plain>(p, w, q, row + i, j + 1, i, firstKey, whole, unit, load(scores + kBlock + i),
                          load(dweights + kBlock + i));
      storeElements<P>(weights + kBlock / P::kDepth, i, b.weight);
      storeElements<P>(dscores + kBlock / P::kDepth, i, b.dscore);
    }
#if defined(__AVX512BF16__)
    if constexpr (P::kDepth == 2) storePairs(w.dscorePairs + j / 2 * kBlock + i, a.dscore, b.dscore);
#endif
  }
}

// Adds what a block of queries and the keys [firstKey, firstKey + n) do to each other's gradients.
template <typename P>
void gradBlock(const Problem& p, const Work<P>& w, const Panel& q, int64_t row, int64_t firstKey, int64_t n,
               Rows<typename P::Word> keys, Rows<typename P::Word> values, Rows<typename P::Word> keyPairs) {
  using Word = typename P::Word;
  using L = Left<Word>;
  const int64_t padded = roundUpToLanes(p.K), vectors = padded / kLanes, depth = depthWords<P>(p.K);
  const int64_t count = std::min<int64_t>(kBlock, q.count - row);
  Span all;
  bool whole = p.kSegments == nullptr && count == kBlock;
  for (int64_t i = 0; i < count; i++) {
    const Sight& s = w.sight[row + i];
    all.include(s, firstKey);
    whole = whole && s.low <= firstKey && s.high >= firstKey + n;
  }
  if (all.empty()) return;
  const bool plain = !p.isShaped() && p.key == nullptr;
  if (!plain) loadExtras(p, w, q, row, count, firstKey);
  constexpr int64_t kRow = kBlock / P::kDepth;
  // Per tile of keys: weights, scores' gradients, and from these the keys' gradients, on the queries that see the keys.
  for (int64_t j = all.low / kTileRows * kTileRows; j < all.high; j += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, n - j));
    int64_t first = whole ? 0 : count, last = whole ? count : 0;
    for (int64_t i = 0; i < count && !whole; i++) {
      const Sight& s = w.sight[row + i];
      if (s.low >= firstKey + j + rows || s.high <= firstKey + j) continue;
      first = std::min(first, i);
      last = i + 1;
    }
    // Sums over keys may read beside the queries that see these.
    Word* dscores = w.dscores + (P::kDepth == 2 ? 0 : j * kRow);
    if (last - first < kBlock) {
      if constexpr (P::kDepth == 2) std::fill_n(w.dscorePairs + j / 2 * kBlock, (rows + 1) / 2 * kBlock, Word{});
      else std::fill_n(dscores, rows * kRow, Word{});
    }
    if (first >= last) continue;
    const int64_t begin = first / kLanes * kLanes, end = roundUpToLanes(last), columns = (end - begin) / kLanes;
    multiplyRows<Start::Zero>(rows, L{keys.data + j * keys.row, keys.row, 1}, w.queryT + row * depth + begin, kBlock,
                              w.scores + begin, kBlock, depth, columns);
    multiplyRows<Start::Zero>(rows, L{values.data + j * values.row, values.row, 1}, w.doutT + row * depth + begin, kBlock,
                              w.dweights + begin, kBlock, depth, columns);
    for (int r = 0; r < rows; r += 2) {
      if (plain) weighRows<P, true>(p, w, q, row, j + r, r + 1 < rows, r, firstKey, begin, end, whole);
      else weighRows<P, false>(p, w, q, row, j + r, r + 1 < rows, r, firstKey, begin, end, whole);
    }
    const int64_t from = first / P::kDepth, terms = (last + P::kDepth - 1) / P::kDepth - from;
    const int64_t at = (row / P::kDepth + from) * padded;
    multiplyRows<Start::Add>(rows, L{w.weights + from, kRow, 1}, w.dout + at, padded, w.dvalues + j * padded, padded, terms,
                             vectors);
    multiplyRows<Start::Add>(rows, L{dscores + from, kRow, 1}, w.query + at, padded, w.dkeys + j * padded, padded, terms,
                             vectors);
  }
  // Per tile of queries: their gradients, from the keys that they see.
  for (int64_t i = 0; i < count; i += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, count - i));
    Span span;
    for (int r = 0; r < rows; r++) span.include(w.sight[row + i + r], firstKey);
    if (span.empty()) continue;
    const int64_t low = span.low / P::kDepth, high = (span.high + P::kDepth - 1) / P::kDepth;
    const Word* left = (P::kDepth == 2 ? w.dscorePairs : w.dscores) + low * kBlock + i;
    multiplyRows<Start::Add>(rows, L{left, 1, kBlock}, keyPairs.data + low * keyPairs.row, keyPairs.row,
                             w.dquery + (row + i) * padded, padded, high - low, vectors);
  }
}

/** Where the gradients of the keys are summed up: float32 [B,S,G,K], the outputs themselves or workspace. */
struct KeySums {
  float *dk, *dv;
};

void addRow(float* to, float* from, int64_t width, float scale, bool isFirst) {
  for (int64_t k = 0; k < width; k++) {
    const float x = from[k] * scale;
    to[k] = isFirst ? x : to[k] + x;
  }
}

// A panel of queries against all keys that it sees. `sums` without memory: the only panel, which writes the outputs.
template <typename P>
void gradPanel(const Problem& p, const KernelArgs& args, const Panel& q, bool isFirst, KeySums sums) {
  const auto w = inScratch<Work<P>>(0, q.count, p.K);
  const int64_t padded = roundUpToLanes(p.K);
  loadPanel(p, args, w, q);
  for (int64_t key = 0; key < p.S; key += kBlock) {
    const int64_t n = std::min<int64_t>(kBlock, p.S - key);
    bool seen = false;
    for (int64_t i = 0; i < q.count && !seen; i++) seen = w.sight[i].low < key + n && w.sight[i].high > key;
    if (!seen && !isFirst) continue;
    std::fill_n(w.dkeys, n * padded, 0.0f);
    std::fill_n(w.dvalues, n * padded, 0.0f);
    for (int64_t next = key + kBlock; next < std::min(key + 2 * kBlock, p.S); next++) {
      prefetchRow(p.k, p.keyAt(p.k, q.b, q.g, next), p.K);
      prefetchRow(p.v, p.keyAt(p.v, q.b, q.g, next), p.K);
    }
    if (seen) {
      const auto keys = packRows<P>(p.k, p.keyAt(p.k, q.b, q.g, key), p.k.strides[1], n, p.K, w.keysPad);
      const auto values = packRows<P>(p.v, p.keyAt(p.v, q.b, q.g, key), p.v.strides[1], n, p.K, w.valuesPad);
      const auto pairs = interleaveRows(keys, n, padded, w.keyPairs);
      for (int64_t row = 0; row < q.count; row += kBlock) gradBlock(p, w, q, row, key, n, keys, values, pairs);
    }
    for (int64_t j = 0; j < n; j++) {
      const int64_t at = ((q.b * p.S + key + j) * p.G + q.g) * p.K;
      float *dk = w.dkeys + j * padded, *dv = w.dvalues + j * padded;
      if (sums.dk != nullptr) {
        addRow(sums.dk + at, dk, p.K, p.scale, isFirst);
        addRow(sums.dv + at, dv, p.K, 1.0f, isFirst);
      } else {
        if (j + kRowsAhead < n) {
          prefetchRow<true>(args.out[1], at + kRowsAhead * p.G * p.K, p.K);
          prefetchRow<true>(args.out[2], at + kRowsAhead * p.G * p.K, p.K);
        }
        addRow(dk, dk, p.K, p.scale, true);
        storeRow(args.out[1], at, dk, p.K);
        storeRow(args.out[2], at, dv, p.K);
      }
    }
  }
  for (int64_t i = 0; i < q.count; i++) {
    float* dq = w.dquery + i * padded;
    if (i + kRowsAhead < q.count) {
      prefetchRow<true>(args.out[0], p.queryAt(args.out[0], q.b, q.g, q.first + i + kRowsAhead), p.K);
    }
    addRow(dq, dq, p.K, p.scale, true);
    storeRow(args.out[0], p.queryAt(args.out[0], q.b, q.g, q.first + i), dq, p.K);
  }
}

template <typename P>
void attendGrad(const Problem& p, const KernelArgs& args) {
  const int64_t rows = p.rows(), panels = (rows + kPanel - 1) / kPanel, slots = slotsOf(p), heads = p.B * p.G;
  const int64_t size = p.B * p.S * p.G * p.K;
  const bool inPlace = slots == 1 && args.out[1].dtype == DType::Float32 && args.out[2].dtype == DType::Float32;
  auto* workspace = static_cast<float*>(args.workspace);
  if (panels > 1 && !inPlace) {
    require(args.workspaceBytes >= 2 * slots * size * 4,
            "attention_grad: expected " + std::to_string(2 * slots * size * 4) + " bytes of workspace");
  }
  if (panels == 0) std::fill_n(static_cast<char*>(args.out[1].data), size * bytesOf(args.out[1].dtype), char{0});
  if (panels == 0) std::fill_n(static_cast<char*>(args.out[2].data), size * bytesOf(args.out[2].dtype), char{0});
  args.pool.parallelFor(heads * slots, [&](int64_t task) {
    // The last slot has the latest queries, which see most: it goes first.
    const int64_t slot = slots - 1 - task / heads, b = task / p.G % p.B, g = task % p.G;
    KeySums sums{nullptr, nullptr};
    if (panels > 1) {
      sums = inPlace ? KeySums{args.out[1].as<float>(), args.out[2].as<float>()}
                     : KeySums{workspace + 2 * slot * size, workspace + (2 * slot + 1) * size};
    }
    for (int64_t panel = slot; panel < panels; panel += slots) {
      const int64_t first = panel * kPanel;
      gradPanel<P>(p, args, {b, g, first, std::min(kPanel, rows - first)}, panel == slot, sums);
    }
  });
  if (panels <= 1 || inPlace) return;
  args.pool.parallelRange(p.B * p.S * p.G, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = 1; i < slots; i++) {
      for (int which = 0; which < 2; which++) {
        addRow(workspace + which * size + begin * p.K, workspace + (2 * i + which) * size + begin * p.K,
               (end - begin) * p.K, 1.0f, false);
      }
    }
    for (int which = 0; which < 2; which++) {
      storeRow(args.out[1 + which], begin * p.K, workspace + which * size + begin * p.K, (end - begin) * p.K);
    }
  });
}

void attentionGrad(const KernelArgs& args) {
  require(args.nIn >= 6 && args.nOut == 3, "attention_grad: expected q, k, v, out, lse, dout and three outputs");
  const Problem p("attention_grad", args, 6);
  if (p.narrow) attendGrad<Narrow>(p, args);
  else attendGrad<Exact>(p, args);
}

PLINTH_KERNEL("attention_grad", attentionGrad);

}  // namespace
}  // namespace plinth
