// Operands of attention's products brought into words (attention_tile.h): rows as they lie, transposed, or by pairs of rows.
#pragma once
#include <cstring>

#include "../kernel.h"
#include "../tensor.h"
#include "attention_tile.h"
#include "element.h"
#include "transpose.h"

namespace plinth::attention {

// Keys, and in the gradient queries, are taken in blocks of this many. Counted from key 0 the blocks are the unit of the
// online softmax, so part of the results' bits.
constexpr int kBlock = 64;

/**
 * Brings `width` elements of a row towards the cache: rows lie a whole token apart, too far for the hardware to foresee.
 * A hint, which does nothing where the compiler has none.
 */
template <bool forWriting = false>
inline void prefetchRow(const Tensor& t, int64_t offset, int64_t width) {
#if defined(__GNUC__) || defined(__clang__)
  const auto* from = static_cast<const char*>(t.data) + offset * bytesOf(t.dtype);
  for (int64_t at = 0; at < width * bytesOf(t.dtype); at += 64) __builtin_prefetch(from + at, forWriting ? 1 : 0, forWriting ? 3 : 2);
#else
  (void)t, (void)offset, (void)width;
#endif
}
// Rows between a prefetch and its use.
constexpr int64_t kRowsAhead = 12;

/** Calls fn with the C++ type of a floating dtype. */
template <typename F>
inline void withFloat(DType dtype, F&& fn) {
  if (dtype == DType::Float32) fn(float{});
  else if (dtype == DType::BFloat16) fn(BFloat16{});
  else fn(Float16{});
}

// Stores elements [j, j + kLanes) of a row of words.
template <typename P>
inline void storeElements(float* row, int64_t j, F32 x) {
  simd::store(row + j, P::kRounded ? simd::roundToBf16(x) : x);
}
#if defined(__AVX512BF16__)
template <typename P>
inline void storeElements(uint32_t* row, int64_t j, F32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<uint16_t*>(row) + j), (__m256i)_mm512_cvtneps_pbh(x.v));
}
/** Words (a, b) of one column each. */
inline void storePairs(uint32_t* to, F32 a, F32 b) {
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(a.v));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(b.v));
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}
#endif

/** Words of a row of `width` elements that count, and with padding to whole vectors of words. */
template <typename P>
inline int64_t depthWords(int64_t width) { return (width + P::kDepth - 1) / P::kDepth; }
template <typename P>
inline int64_t rowWords(int64_t width) { return roundUpToLanes(depthWords<P>(width)); }

/** One row of `width` elements as rowWords words, zeros beyond. */
template <typename P>
inline void packRow(const Tensor& t, int64_t offset, int64_t width, typename P::Word* to) {
  if (P::kDepth == 2 && t.dtype == DType::BFloat16 && width % (2 * kLanes) == 0) {
    std::memcpy(to, static_cast<const BFloat16*>(t.data) + offset, static_cast<size_t>(width) * sizeof(BFloat16));
    return;
  }
  withFloat(t.dtype, [&](auto e) {
    const auto* from = static_cast<const decltype(e)*>(t.data) + offset;
    const int64_t end = rowWords<P>(width) * P::kDepth;
    int64_t k = 0;
    for (; k + kLanes <= width; k += kLanes) storeElements<P>(to, k, loadVector(from + k));
    for (; k < end; k += kLanes) storeElements<P>(to, k, loadVectorUpTo(from + k, width - k));
  });
}

/** Rows of words wherever they lie. */
template <typename Word>
struct Rows {
  const Word* data;
  int64_t row;
};

/** `rows` rows of a tensor as words in `pad`, or where they are if they need no change. */
template <typename P>
inline Rows<typename P::Word> packRows(const Tensor& t, int64_t offset, int64_t stride, int64_t rows, int64_t width,
                                       typename P::Word* pad) {
  using Word = typename P::Word;
  constexpr DType kind = P::kDepth == 2 ? DType::BFloat16 : DType::Float32;
  constexpr bool asTheyAre = P::kDepth == 2 || !P::kRounded;
  if (asTheyAre && t.dtype == kind && width % (kLanes * P::kDepth) == 0 && (offset | stride) % P::kDepth == 0) {
    const auto* data = static_cast<const char*>(t.data) + offset * bytesOf(kind);
    if (reinterpret_cast<uintptr_t>(data) % sizeof(Word) == 0) {
      return {reinterpret_cast<const Word*>(data), stride / P::kDepth};
    }
  }
  const int64_t words = rowWords<P>(width);
  for (int64_t i = 0; i < rows; i++) packRow<P>(t, offset + i * stride, width, pad + i * words);
  return {pad, words};
}

inline F32 loadBits(const float* p) { return simd::load(p); }
inline F32 loadBits(const uint32_t* p) { return simd::floatOf(simd::loadInt(reinterpret_cast<const int32_t*>(p))); }
inline void storeBits(float* p, F32 x) { simd::store(p, x); }
inline void storeBits(uint32_t* p, F32 x) { simd::storeInt(reinterpret_cast<int32_t*>(p), simd::bitsOf(x)); }

/** to[w][j] = from[j][w] for `rows` <= kBlock rows and `words` columns; the other columns of `to` become 0. */
template <typename Word>
inline void transposeRows(Rows<Word> from, int64_t rows, int64_t words, Word* to) {
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    const int64_t n = std::clamp<int64_t>(rows - j, 0, kLanes);
    for (int64_t w = 0; w < words; w += kLanes) {
      F32 block[kLanes];
      if (n == kLanes) {
        PLINTH_UNROLL
        for (int64_t r = 0; r < kLanes; r++) block[r] = loadBits(from.data + (j + r) * from.row + w);
      } else {
        for (int64_t r = 0; r < kLanes; r++) {
          block[r] = r < n ? loadBits(from.data + (j + r) * from.row + w) : simd::zero();
        }
      }
      simd::transposeBlock(block);
      if (words - w >= kLanes) {
        PLINTH_UNROLL
        for (int64_t c = 0; c < kLanes; c++) storeBits(to + (w + c) * kBlock + j, block[c]);
      } else {
        for (int64_t c = 0; c < words - w; c++) storeBits(to + (w + c) * kBlock + j, block[c]);
      }
    }
  }
}

/** Rows as right operand of sums over them: kDepth rows interleaved to one of words; single words need no change. */
inline Rows<float> interleaveRows(Rows<float> from, int64_t, int64_t, float*) { return from; }
inline Rows<uint32_t> interleaveRows(Rows<uint32_t> from, int64_t rows, int64_t columns, uint32_t* to) {
  for (int64_t j = 0; j < rows; j += 2) {
    const auto* a = reinterpret_cast<const uint16_t*>(from.data + j * from.row);
    const auto* b = reinterpret_cast<const uint16_t*>(from.data + (j + 1) * from.row);
    auto* out = reinterpret_cast<int32_t*>(to + j / 2 * columns);
    for (int64_t k = 0; k < columns; k += kLanes) {
      I32 word = simd::widenUnsigned(a + k);
      if (j + 1 < rows) word = word | simd::shiftLeft<16>(simd::widenUnsigned(b + k));
      simd::storeInt(out + k, word);
    }
  }
  return {to, columns};
}

/** Writes a row of float32 to a tensor of any floating type. */
inline void storeRow(const Tensor& t, int64_t offset, const float* from, int64_t width) {
  withFloat(t.dtype, [&](auto e) {
    using T = decltype(e);
    T* to = static_cast<T*>(t.data) + offset;
    int64_t k = 0;
    for (; k + kLanes <= width; k += kLanes) storeVector(to + k, simd::load(from + k));
    for (; k < width; k++) to[k] = convert<T>(from[k]);
  });
}

/** Hands out pieces of memory; with no memory it only counts. */
class Arena {
 public:
  explicit Arena(void* memory = nullptr) : base_(static_cast<char*>(memory)) {}
  template <typename T>
  T* take(int64_t n) {
    char* at = base_ + used_;
    used_ += roundUp(n * static_cast<int64_t>(sizeof(T)) + 64, 64);
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(at);
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

/** A W(Arena&, arguments...) in scratch memory of this thread. */
template <typename W, typename... Args>
inline W inScratch(int slot, Args... args) {
  Arena count;
  W(count, args...);
  Arena arena(ThreadPool::scratch(count.used(), slot));
  return W(arena, args...);
}

}  // namespace plinth::attention
