// Sizes, operands and masks of an attention call, and how raw products become scores. Contract: KERNELS.md ("attention").
#pragma once
#include <cmath>
#include <string>

#include "../simd_math.h"
#include "attention_pack.h"
#include "philox.h"

namespace plinth::attention {

constexpr float kLog2E = 1.44269504f;
constexpr double kLn2 = 0.693147180559945309;

/** 2^x for x <= 128 within 2 units in the last place, exactly 0 from -127 down and exactly 1 at 0. NaN stays NaN. */
inline F32 exp2(F32 x) {
  using namespace simd;
  constexpr float c[] = {1.0f, 6.931469776e-01f, 2.402224208e-01f, 5.550733747e-02f, 9.671512910e-03f, 1.326472689e-03f};
  x = max(splat(-127.0f), x);
  // Adding 1.5 * 2^23 rounds to an integer; 127 more leaves the power's exponent in the low bits.
  const F32 magic = splat(12582912.0f + 127.0f);
  const F32 shifted = x + magic;
  const F32 r = x - (shifted - magic);
  return polynomial(r, c) * floatOf(shiftLeft<23>(bitsOf(shifted)));
}

struct Problem {
  int64_t B, T, H, K, S, G;
  int64_t share;  // query heads per key-value head
  Tensor q, k, v;
  bool causal;
  int64_t window;
  const int32_t *start = nullptr, *qSegments = nullptr, *kSegments = nullptr;
  const Tensor* bias = nullptr;  // [B or 1, H or 1, T or 1, S]
  const int32_t* key = nullptr;  // of the dropout
  int64_t stream;
  float scale, softCap;
  float rate, kept;  // of the dropout, and the factor 1/(1-rate) of what it keeps
  bool narrow;  // operands of products are bfloat16

  // Inputs 0..2 are q, k, v; `optional` is the index of the first optional one.
  Problem(const char* name, const KernelArgs& args, int optional) : q(args.in[0]), k(args.in[1]), v(args.in[2]) {
    const std::string prefix = std::string(name) + ": ";
    require(args.nInts == 8 && args.nFloats == 3,
            prefix + "expected [causal, hasStart, hasSegments, window, operands, hasBias, hasDropout, stream] and "
                     "[scale, softCap, rate]");
    require(q.rank == 4 && k.rank == 4 && v.rank == 4, prefix + "expected q[B,T,H,K], k[B,S,G,K], v[B,S,G,K]");
    for (const Tensor* t : {&q, &k, &v}) {
      require(isFloat(t->dtype), prefix + "expected floats");
      require(t->strides[3] == 1 || t->shape[3] <= 1, prefix + "expected contiguous heads");
    }
    B = q.shape[0], T = q.shape[1], H = q.shape[2], K = q.shape[3], S = k.shape[1], G = k.shape[2];
    require(G > 0 ? H % G == 0 : H == 0, prefix + "expected a number of heads that the key-value heads divide");
    share = G > 0 ? H / G : 0;
    causal = args.ints[0] != 0;
    window = args.ints[3];
    narrow = args.ints[4] != 0;
    stream = args.ints[7];
    scale = static_cast<float>(args.floats[0]);
    softCap = static_cast<float>(args.floats[1]);
    rate = static_cast<float>(args.floats[2]);
    kept = static_cast<float>(1.0 / (1.0 - args.floats[2]));
    const int wanted = optional + (args.ints[1] != 0) + 2 * (args.ints[2] != 0) + (args.ints[5] != 0) + (args.ints[6] != 0);
    require(args.nIn == wanted, prefix + "expected " + std::to_string(wanted) + " inputs");
    if (args.ints[1] != 0) start = args.in[optional++].as<int32_t>();
    if (args.ints[2] != 0) {
      qSegments = args.in[optional++].as<int32_t>();
      kSegments = args.in[optional++].as<int32_t>();
    }
    if (args.ints[5] != 0) {
      bias = &args.in[optional++];
      require(bias->rank == 4 && isFloat(bias->dtype) && bias->shape[3] == S, prefix + "expected a bias [B,H,T,S]");
    }
    if (args.ints[6] != 0) key = args.in[optional].as<int32_t>();
  }

  static bool isFloat(DType d) { return d == DType::Float32 || d == DType::BFloat16 || d == DType::Float16; }

  /** Queries that share a key-value head are numbered t * share + (head within the group). */
  int64_t rows() const { return T * share; }
  int64_t head(int64_t g, int64_t row) const { return g * share + row % share; }
  /** Offset in q (or a tensor of its shape) of a query. */
  int64_t queryAt(const Tensor& x, int64_t b, int64_t g, int64_t row) const {
    return b * x.strides[0] + row / share * x.strides[1] + head(g, row) * x.strides[2];
  }
  int64_t keyAt(const Tensor& x, int64_t b, int64_t g, int64_t s) const {
    return b * x.strides[0] + s * x.strides[1] + g * x.strides[2];
  }
  /** Index of a query's row in row-major [B,H,T]. */
  int64_t indexBHT(int64_t b, int64_t g, int64_t row) const { return (b * H + head(g, row)) * T + row / share; }

  /** Scores are made from products by more than a positive factor. */
  bool isShaped() const { return bias != nullptr || softCap > 0 || !(scale > 0); }
  /** What turns the scores that {@link shape} leaves into exponents of 2. */
  float unit() const { return isShaped() ? 1.0f : scale * kLog2E; }

  /** Elements [at, at + n) of the bias of a query, and zeros up to `end`. */
  void readBias(int64_t b, int64_t g, int64_t row, int64_t at, int64_t n, float* to, int64_t end) const {
    const auto along = [&](int axis, int64_t i) { return bias->shape[axis] == 1 ? 0 : i * bias->strides[axis]; };
    const int64_t offset = along(0, b) + along(1, head(g, row)) + along(2, row / share) + at;
    withFloat(bias->dtype, [&](auto e) {
      const auto* from = static_cast<const decltype(e)*>(bias->data) + offset;
      for (int64_t j = 0; j < end; j += kLanes) simd::store(to + j, loadVectorUpTo(from + j, n - j));
    });
  }
  /** Factors of dropout, 0 or 1/(1-rate), of the weights of keys [at, at + n) of a query. n <= kBlock. */
  void readDropout(int64_t b, int64_t g, int64_t row, int64_t at, int64_t n, float* to) const {
    const int64_t first = indexBHT(b, g, row) * S + at;
    alignas(64) int32_t words[kBlock + 8 * kLanes];
    philoxWords(key, stream, first / 4, (first % 4 + n + 3) / 4, words);
    const int32_t* bits = words + first % 4;
    const F32 factor = simd::splat(kept), limit = simd::splat(rate);
    for (int64_t j = 0; j < n; j += kLanes) {
      const F32 uniform = simd::toFloat(simd::shiftRightLogical<8>(simd::loadInt(bits + j))) * simd::splat(0x1p-24f);
      simd::store(to + j, simd::select(simd::less(uniform, limit), simd::zero(), factor));
    }
  }
};

/** The score, in units of ln 2, of a product: capped, with its bias. */
inline F32 shapeScore(const Problem& p, F32 product, F32 bias) {
  F32 s = product * simd::splat(p.scale);
  if (p.softCap > 0) s = simd::tanh(s * simd::splat(1.0f / p.softCap)) * simd::splat(p.softCap);
  return (s + bias) * simd::splat(kLog2E);
}

/** The keys that a query may see: those of [low, high), and of its segment if there are segments. */
struct Sight {
  int64_t low, high;
  int32_t segment;

  Sight() = default;
  /** `before`: sight of the query before it in the same row of the batch, if known. */
  Sight(const Problem& p, int64_t b, int64_t t, const Sight* before) : low(0), high(p.S), segment(0) {
    if (p.causal) {
      const int64_t position = (p.start != nullptr ? p.start[b] : 0) + t;
      high = std::clamp<int64_t>(position + 1, 0, p.S);
      if (p.window > 0) low = std::max<int64_t>(0, position - p.window + 1);
    }
    if (p.kSegments != nullptr) {
      // Documents lie in a row: closing in on the first and last key of the segment skips the blocks of the others.
      segment = p.qSegments[b * p.T + t];
      const int32_t* ids = p.kSegments + b * p.S;
      if (before != nullptr && before->segment == segment && !before->empty()) low = std::max(low, before->low);
      while (low < high && ids[low] != segment) low++;
      while (low < high && ids[high - 1] != segment) high--;
    }
    if (low >= high) low = high = 0;
  }
  bool empty() const { return low >= high; }
};

/** Sights of queries [first, first + count) of a key-value head. */
inline void findSights(const Problem& p, int64_t b, int64_t first, int64_t count, Sight* sight) {
  for (int64_t i = 0; i < count; i++) {
    const bool sameToken = i > 0 && (first + i) % p.share != 0;
    sight[i] = sameToken ? sight[i - 1] : Sight(p, b, (first + i) / p.share, i > 0 ? &sight[i - 1] : nullptr);
  }
}

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

/** The part of a block of keys from `firstKey` that some of several queries see: [low, high), empty if low >= high. */
struct Span {
  int64_t low = kBlock, high = 0;
  void include(const Sight& s, int64_t firstKey) {
    if (s.low >= firstKey + kBlock || s.high <= firstKey) return;
    low = std::min(low, std::max<int64_t>(0, s.low - firstKey));
    high = std::max(high, std::min<int64_t>(kBlock, s.high - firstKey));
  }
  bool empty() const { return low >= high; }
};

}  // namespace plinth::attention
