// Attention without the score matrix (online softmax: Milakov & Gimelshein 2018; Dao et al. 2022). Contract: KERNELS.md
// ("attention"). A query's result is a function of its own row and the keys alone: keys come in blocks and groups of blocks
// counted from key 0, and each sum runs over them in order, so decoding one token gives the bits of the full pass, and the
// groups of a long cache can be shared out to threads.
#include "attention_problem.h"

namespace plinth {
namespace {

using namespace attention;
using namespace simd;

// Keys that are summed on their own before they join the others. Part of the results' bits.
constexpr int64_t kGroup = 16 * kBlock;
// Queries of a task: the more, the fewer times the keys are packed, as long as all stays in the cache. Changes no bits.
template <typename P>
constexpr int64_t kMostQueries = P::kDepth == 2 ? 512 : 384;
constexpr int64_t kFewestQueries = 8 * kTileRows;

/** Weighted sums of values of some queries, relative to their largest score. */
struct Sums {
  float *result, *top, *total;  // [rows][padded], [rows], [rows]
  Sums(Arena& a, int64_t rows, int64_t width)
      : result(a.take<float>(rows * roundUpToLanes(width))), top(a.take<float>(rows)), total(a.take<float>(rows)) {}

  void clear(int64_t rows, int64_t padded) const {
    std::fill_n(result, rows * padded, 0.0f);
    std::fill_n(top, rows, -kInfinity);
    std::fill_n(total, rows, 0.0f);
  }

  /** Adds the sums of later keys. */
  void add(const Sums& later, int64_t rows, int64_t padded, float unit) const {
    for (int64_t i = 0; i < rows; i++) {
      if (later.total[i] == 0.0f) continue;
      float *to = result + i * padded, *from = later.result + i * padded;
      if (total[i] == 0.0f) {
        std::copy_n(from, padded, to);
        top[i] = later.top[i];
        total[i] = later.total[i];
        continue;
      }
      const float newTop = std::max(later.top[i], top[i]);
      const F32 keep = exp2(splat((top[i] - newTop) * unit)), join = exp2(splat((later.top[i] - newTop) * unit));
      for (int64_t k = 0; k < padded; k += kLanes) {
        simd::store(to + k, simd::fma(load(from + k), join, load(to + k) * keep));
      }
      float lanes[kLanes];
      simd::store(lanes, simd::fma(splat(later.total[i]), join, splat(total[i]) * keep));
      top[i] = newTop;
      total[i] = lanes[0];
    }
  }
};

template <typename P>
struct Work {
  using Word = typename P::Word;
  Sums all, group;
  float* lanes;   // [rows][kLanes]: totals of the group, by lanes
  float *scores, *extra;  // [kTileRows][kBlock]
  Word *query, *keys, *keysT, *values, *pairs, *weights;
  Sight* sight;

  Work(Arena& a, int64_t rows, int64_t width)
      : all(a, rows, width),
        group(a, rows, width),
        lanes(a.take<float>(rows * kLanes)),
        scores(a.take<float>(kTileRows * kBlock)),
        extra(a.take<float>(kTileRows * kBlock)),
        query(a.take<Word>(rows * rowWords<P>(width))),
        keys(a.take<Word>(kBlock * rowWords<P>(width))),
        keysT(a.take<Word>(kBlock * rowWords<P>(width))),
        values(a.take<Word>(kBlock * rowWords<P>(width))),
        pairs(a.take<Word>(kBlock * roundUpToLanes(width))),
        weights(a.take<Word>(kTileRows * kBlock)),
        sight(a.take<Sight>(rows)) {}
};

/** Queries [first, first + count) of a key-value head. */
struct Queries {
  int64_t b, g, first, count;
};

// Scores to weights for a tile of queries and the keys [firstKey + begin, firstKey + end): exp(s - top), with the running
// tops and totals brought up to date. `factor` is for what was summed under the old tops.
template <typename P>
void softmaxTile(const Problem& p, const Work<P>& w, const Sums& sums, const Queries& q, int64_t row, int rows,
                 int64_t firstKey, int64_t begin, int64_t end, float* factor) {
  const bool shaped = p.isShaped(), whole = begin == 0 && end == kBlock;
  const F32 unit = splat(p.unit());
  const int32_t* segments = p.kSegments != nullptr ? p.kSegments + q.b * p.S : nullptr;
  alignas(64) float fall[kTileRows + kLanes] = {};
  float shift[kTileRows];
  for (int i = 0; i < rows; i++) {
    float* scores = w.scores + i * kBlock;
    const Sight& sight = w.sight[row + i];
    if (shaped) {
      float* bias = w.extra + i * kBlock;
      if (p.bias != nullptr) {
        const int64_t at = firstKey + begin;
        p.readBias(q.b, q.g, q.first + row + i, at, std::min(p.S - at, end - begin), bias + begin, end - begin);
      }
      for (int64_t j = begin; j < end; j += kLanes) {
        simd::store(scores + j, shapeScore(p, load(scores + j), p.bias != nullptr ? load(bias + j) : zero()));
      }
    }
    F32 best = splat(-kInfinity);
    if (segments == nullptr && sight.low <= firstKey + begin && sight.high >= firstKey + end) {
      if (whole) {
        F32 half[2] = {best, best};
        PLINTH_UNROLL
        for (int j = 0; j < kBlock; j += 2 * kLanes) {
          half[0] = max(load(scores + j), half[0]);
          half[1] = max(load(scores + j + kLanes), half[1]);
        }
        best = max(half[0], half[1]);
      } else {
        for (int64_t j = begin; j < end; j += kLanes) best = max(load(scores + j), best);
      }
    } else {
      for (int64_t j = begin; j < end; j += kLanes) {
        const F32 s = maskScores(load(scores + j), sight, firstKey + j, segments, p.S);
        simd::store(scores + j, s);
        best = max(s, best);
      }
    }
    float& top = sums.top[row + i];
    const float newTop = std::max(top, reduceMax(best));
    // Nothing seen yet: exp(-inf - 0) gives the zeros wanted, and NaN stays NaN.
    shift[i] = newTop == -kInfinity ? 0.0f : newTop;
    fall[i] = top - shift[i];
    top = newTop;
  }
  for (int i = 0; i < rows; i += kLanes) storeUpTo(factor + i, exp2(load(fall + i) * unit), rows - i);
  for (int i = 0; i < rows; i++) {
    float* scores = w.scores + i * kBlock;
    typename P::Word* weights = w.weights + i * (kBlock / P::kDepth);
    const F32 top = splat(shift[i]);
    float* lanes = w.lanes + (row + i) * kLanes;
    F32 sum = load(lanes) * splat(factor[i]);
    if (p.key == nullptr && whole) {
      PLINTH_UNROLL
      for (int j = 0; j < kBlock; j += kLanes) {
        const F32 weight = exp2((load(scores + j) - top) * unit);
        storeElements<P>(weights, j, weight);
        sum = sum + weight;
      }
    } else if (p.key == nullptr) {
      for (int64_t j = begin; j < end; j += kLanes) {
        const F32 weight = exp2((load(scores + j) - top) * unit);
        storeElements<P>(weights, j, weight);
        sum = sum + weight;
      }
    } else {
      float* kept = w.extra + i * kBlock;
      p.readDropout(q.b, q.g, q.first + row + i, firstKey + begin, end - begin, kept + begin);
      for (int64_t j = begin; j < end; j += kLanes) {
        const F32 weight = exp2((load(scores + j) - top) * unit);
        storeElements<P>(weights, j, weight * load(kept + j));
        sum = sum + weight;
      }
    }
    simd::store(lanes, sum);
  }
}

// Adds the keys [firstKey, firstKey + kBlock) to a tile of queries.
template <typename P>
void attendTile(const Problem& p, const Work<P>& w, const Sums& sums, const Queries& q, int64_t row, int rows,
                int64_t firstKey, Rows<typename P::Word> values) {
  const int64_t padded = roundUpToLanes(p.K), words = rowWords<P>(p.K);
  Span span;
  for (int i = 0; i < rows; i++) span.include(w.sight[row + i], firstKey);
  if (span.empty()) return;
  // Whole vectors of keys; the others would only add exact zeros.
  const int64_t begin = span.low / kLanes * kLanes, end = roundUpToLanes(span.high);
  using L = Left<typename P::Word>;
  multiplyRows<Start::Zero>(rows, L{w.query + row * words, words, 1}, w.keysT + begin, kBlock, w.scores + begin, kBlock,
                            depthWords<P>(p.K), (end - begin) / kLanes);
  float factor[kTileRows];  // of the sums so far
  softmaxTile(p, w, sums, q, row, rows, firstKey, begin, end, factor);
  const int64_t low = span.low / P::kDepth, high = (span.high + P::kDepth - 1) / P::kDepth;
  multiplyRows<Start::Scale>(rows, L{w.weights + low, kBlock / P::kDepth, 1}, values.data + low * values.row, values.row,
                             sums.result + row * padded, padded, high - low, padded / kLanes, factor);
}

// Sums of queries over the keys [low, high) in w.all.
template <typename P>
void attendKeys(const Problem& p, const Work<P>& w, const Queries& q, int64_t low, int64_t high) {
  const int64_t padded = roundUpToLanes(p.K);
  w.all.clear(q.count, padded);
  bool isFirst = true;
  for (int64_t group = low / kGroup * kGroup; group < high; group += kGroup) {
    const Sums& sums = isFirst ? w.all : w.group;
    if (!isFirst) sums.clear(q.count, padded);
    std::fill_n(w.lanes, q.count * kLanes, 0.0f);
    const int64_t first = std::max(group, low / kBlock * kBlock), last = std::min(group + kGroup, high);
    for (int64_t key = first; key < last; key += kBlock) {
      const int64_t n = std::min<int64_t>(kBlock, p.S - key);
      for (int64_t next = key + kBlock; next < std::min(key + 2 * kBlock, last); next++) {
        prefetchRow(p.k, p.keyAt(p.k, q.b, q.g, next), p.K);
        prefetchRow(p.v, p.keyAt(p.v, q.b, q.g, next), p.K);
      }
      const auto keys = packRows<P>(p.k, p.keyAt(p.k, q.b, q.g, key), p.k.strides[1], n, p.K, w.keys);
      transposeRows(keys, n, depthWords<P>(p.K), w.keysT);
      const auto values = packRows<P>(p.v, p.keyAt(p.v, q.b, q.g, key), p.v.strides[1], n, p.K, w.values);
      const auto block = interleaveRows(values, n, padded, w.pairs);
      for (int64_t row = 0; row < q.count; row += kTileRows) {
        attendTile(p, w, sums, q, row, static_cast<int>(std::min<int64_t>(kTileRows, q.count - row)), key, block);
      }
    }
    for (int64_t i = 0; i < q.count; i++) sums.total[i] = reduceAdd(load(w.lanes + i * kLanes));
    if (!isFirst) w.all.add(sums, q.count, padded, p.unit());
    isFirst = false;
  }
}

template <typename P>
Work<P> prepare(const Problem& p, const Queries& q) {
  const auto w = inScratch<Work<P>>(0, q.count, p.K);
  const int64_t words = rowWords<P>(p.K);
  for (int64_t i = 0; i < q.count; i++) {
    if (i + kRowsAhead < q.count) prefetchRow(p.q, p.queryAt(p.q, q.b, q.g, q.first + i + kRowsAhead), p.K);
    packRow<P>(p.q, p.queryAt(p.q, q.b, q.g, q.first + i), p.K, w.query + i * words);
  }
  findSights(p, q.b, q.first, q.count, w.sight);
  return w;
}

void finish(const Problem& p, const KernelArgs& args, const Sums& sums, const Queries& q) {
  const int64_t padded = roundUpToLanes(p.K);
  const Tensor& out = args.out[0];
  for (int64_t i = 0; i < q.count; i++) {
    const int64_t row = q.first + i;
    if (i + kRowsAhead < q.count) prefetchRow<true>(out, p.queryAt(out, q.b, q.g, row + kRowsAhead), p.K);
    float* result = sums.result + i * padded;
    const float total = sums.total[i];
    const F32 factor = splat(total == 0.0f ? 0.0f : 1.0f / total);
    // + 0 turns -0 into 0: keys out of sight may or may not have been added as exact zeros.
    for (int64_t k = 0; k < padded; k += kLanes) simd::store(result + k, load(result + k) * factor + zero());
    storeRow(out, p.queryAt(out, q.b, q.g, row), result, p.K);
  }
  float* lse = args.out[1].as<float>();
  for (int64_t i = 0; i < q.count; i += kLanes) {
    const int n = static_cast<int>(std::min<int64_t>(kLanes, q.count - i));
    const F32 tops = loadUpTo(sums.top + i, n) * splat(p.unit());
    float sum[kLanes];
    simd::store(sum, simd::fma(tops, splat(static_cast<float>(kLn2)), simd::log(loadUpTo(sums.total + i, n))));
    for (int j = 0; j < n; j++) lse[p.indexBHT(q.b, q.g, q.first + i + j)] = sum[j];
  }
}

/** The keys that some of the queries see. */
void keysInSight(const Problem& p, const Sight* sight, int64_t count, int64_t& low, int64_t& high) {
  low = p.S, high = 0;
  for (int64_t i = 0; i < count; i++) {
    if (sight[i].empty()) continue;
    low = std::min(low, sight[i].low);
    high = std::max(high, sight[i].high);
  }
}

// Few queries of few heads: groups of keys are tasks of their own, joined in order.
template <typename P>
void attendByGroups(const Problem& p, const KernelArgs& args, int64_t heads) {
  const int64_t groups = (p.S + kGroup - 1) / kGroup, rows = p.rows(), padded = roundUpToLanes(p.K);
  struct Parts {
    float* data;
    Parts(Arena& a, int64_t floats) : data(a.take<float>(floats)) {}
  };
  const int64_t part = rows * (padded + 2);
  float* data = inScratch<Parts>(1, heads * groups * part).data;
  const auto sumsAt = [&](int64_t task) {
    Arena none;
    Sums s(none, rows, p.K);
    s.result = data + task * part, s.top = s.result + rows * padded, s.total = s.top + rows;
    return s;
  };
  args.pool.parallelFor(heads * groups, [&](int64_t task) {
    const Queries q{task / groups / p.G, task / groups % p.G, 0, rows};
    const auto w = prepare<P>(p, q);
    const int64_t group = task % groups * kGroup;
    int64_t low, high;
    keysInSight(p, w.sight, rows, low, high);
    low = std::max(low, group), high = std::min(high, group + kGroup);
    w.all.clear(rows, padded);
    if (low < high) attendKeys(p, w, q, low, high);
    const Sums to = sumsAt(task);
    std::copy_n(w.all.result, rows * padded, to.result);
    std::copy_n(w.all.top, rows, to.top);
    std::copy_n(w.all.total, rows, to.total);
  });
  for (int64_t head = 0; head < heads; head++) {
    const Sums all = sumsAt(head * groups);
    for (int64_t i = 1; i < groups; i++) all.add(sumsAt(head * groups + i), rows, padded, p.unit());
    finish(p, args, all, {head / p.G, head % p.G, 0, rows});
  }
}

template <typename P>
void attend(const Problem& p, const KernelArgs& args) {
  const int64_t heads = p.B * p.G, rows = p.rows(), threads = args.pool.threads();
  if (rows <= kFewestQueries && p.S > kGroup && heads < 2 * threads) return attendByGroups<P>(p, args, heads);
  // Even blocks of whole tiles, enough of them for the threads.
  const int64_t wanted = std::max((rows + kMostQueries<P> - 1) / kMostQueries<P>, (4 * threads + heads - 1) / heads);
  const int64_t size = std::max(roundUp((rows + wanted - 1) / wanted, kTileRows), std::min(rows, kFewestQueries));
  const int64_t blocks = (rows + size - 1) / size;
  args.pool.parallelFor(heads * blocks, [&](int64_t task) {
    // Late queries see more keys: they go first, so that the threads end together.
    const int64_t first = (blocks - 1 - task / heads) * size;
    const Queries q{task / p.G % p.B, task % p.G, first, std::min(size, rows - first)};
    const auto w = prepare<P>(p, q);
    int64_t low, high;
    keysInSight(p, w.sight, q.count, low, high);
    attendKeys(p, w, q, low, high);
    finish(p, args, w.all, q);
  });
}

void attentionForward(const KernelArgs& args) {
  require(args.nIn >= 3 && args.nOut == 2, "attention: expected q, k, v and two outputs");
  const Problem p("attention", args, 3);
  if (p.B * p.T * p.H == 0) return;
  if (p.narrow) attend<Narrow>(p, args);
  else attend<Exact>(p, args);
}

PLINTH_KERNEL("attention", attentionForward);

}  // namespace
}  // namespace plinth
