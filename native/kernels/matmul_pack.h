// Copies pieces of a strided operand into panels: for each item of K, the `width` values that a register tile reads together.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/element.h"
#include "kernels/matmul_tile.h"
#include "kernels/transpose.h"
#include "tensor.h"

namespace plinth::matmul {

// Elements that are rounded to bfloat16 as they are read.
template <typename T>
struct Rounded {
  T value;
};
template <typename T>
float toFloat(Rounded<T> x) {
  return bfloat16ToFloat(floatToBfloat16(plinth::toFloat(x.value)));
}
template <typename T>
F32 loadVector(const Rounded<T>* p) {
  return simd::roundToBf16(plinth::loadVector(&p->value));
}
template <typename T>
F32 loadVectorUpTo(const Rounded<T>* p, int64_t n) {
  return simd::roundToBf16(plinth::loadVectorUpTo(&p->value, n));
}
using plinth::loadVector;
using plinth::loadVectorUpTo;
using plinth::toFloat;

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One operand seen as lines (rows of A, columns of B) of K terms each. Strides in elements.
struct Operand {
  const char* data;
  DType dtype;
  int64_t lineStride;
  int64_t kStride;
  bool rounded = false;  // to bfloat16, as it is read

  const char* at(int64_t line, int64_t k) const { return data + (line * lineStride + k * kStride) * bytesOf(dtype); }
};

// How items are read from memory: `across` one item each of kLanes lines that lie side by side, `along` kLanes items of one
// line that lie one after another, `single` one item. Only the first n lines or terms are read, the rest is 0.
template <typename Terms, typename T>
struct Reader {
  static F32 across(const T* p, int64_t, int64_t, int64_t n) { return loadVectorUpTo(p, n); }
  static F32 along(const T* p, int64_t n) { return loadVectorUpTo(p, n); }
  static float single(const T* p, int64_t, int64_t) { return toFloat(*p); }
};

#if defined(PLINTH_AVX512_BF16)
template <typename T>
struct Reader<PairTerms, T> {
  // `terms`: how many there are from this one on; the second of the last pair may be missing.
  static F32 across(const T* p, int64_t kStride, int64_t terms, int64_t n) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (n >= kLanes && terms > 1) return simd::interleavePairs(&p->bits, &(p + kStride)->bits);
      if (n <= 0) return simd::zero();
      const int lines = static_cast<int>(std::min<int64_t>(n, kLanes));
      const simd::I32 first = simd::widenUnsignedPartial(&p->bits, lines);
      if (terms < 2) return simd::floatOf(first);
      return simd::floatOf(first | simd::shiftLeft<16>(simd::widenUnsignedPartial(&(p + kStride)->bits, lines)));
    } else {
      return simd::interleavePairs(loadVectorUpTo(p, n), terms > 1 ? loadVectorUpTo(p + kStride, n) : simd::zero());
    }
  }
  static F32 along(const T* p, int64_t n) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (n >= 2 * kLanes) return simd::load(reinterpret_cast<const float*>(p));
      return n <= 0 ? simd::zero() : simd::loadHalves(&p->bits, static_cast<int>(n));
    } else {
      return simd::packPairs(loadVectorUpTo(p, n), loadVectorUpTo(p + kLanes, n - kLanes));
    }
  }
  static float single(const T* p, int64_t kStride, int64_t terms) {
    const auto bits = [](T x) { return static_cast<uint32_t>(floatToBfloat16(toFloat(x))); };
    return std::bit_cast<float>(bits(*p) | (terms > 1 ? bits(p[kStride]) << 16 : 0u));
  }
};
#endif

// to[item][width] = the lines' items of `terms` terms, anything beyond `lines`. width <= kLanes or a multiple of kLanes.
template <typename Terms, typename T>
void packTyped(const T* from, int64_t lineStride, int64_t kStride, int64_t lines, int64_t terms, int width, float* to) {
  using Read = Reader<Terms, T>;
  constexpr int kPer = Terms::kPerItem;
  const int64_t items = (terms + kPer - 1) / kPer;
  // A store of a full vector may run into the places of the next item, which are written next, but not beyond the end:
  // there another task may be writing.
  const auto put = [&](int64_t item, int i, F32 x) {
    if (item * width + i + kLanes <= items * width) simd::store(to + item * width + i, x);
    else simd::storePartial(to + item * width + i, x, width - i);
  };
  if (lineStride == 1) {
    const int64_t whole = std::min<int64_t>(items, terms / kPer);
    // Rows of memory are too far apart for the hardware's prefetchers.
    constexpr int64_t kRowsAhead = 16, kLine = 64 / sizeof(T);
    int64_t item = 0;
    if (width == kNr && lines >= kNr) {
      // What is written here was read by the other threads last: their caches take long to give it up.
      constexpr int64_t kItemsAhead = 8;
      for (; item < whole; item++) {
        const T* row = from + item * kPer * kStride;
        float* place = to + item * kNr;
        for (int t = 0; t < kPer; t++) {
          for (int64_t i = 0; i < kNr; i += kLine) PLINTH_PREFETCH_L2(row + (kRowsAhead + t) * kStride + i);
        }
        PLINTH_UNROLL
        for (int j = 0; j < kNv; j++) {
          PLINTH_PREFETCH_WRITE(place + kItemsAhead * kNr + j * kLanes);
          simd::store(place + j * kLanes, Read::across(row + j * kLanes, kStride, kPer, kLanes));
        }
      }
    }
    for (; item < items; item++) {
      const T* row = from + item * kPer * kStride;
      for (int t = 0; t < kPer; t++) PLINTH_PREFETCH_L2(row + (kRowsAhead + t) * kStride);
      for (int i = 0; i < width; i += kLanes) put(item, i, Read::across(row + i, kStride, terms - item * kPer, lines - i));
    }
  } else if (kStride == 1) {
    // Places beyond the lines repeat the last one: what is summed there is never stored.
    int64_t offsets[kNr > kMr + kLanes ? kNr : kMr + kLanes];
    for (int i = 0; i < ceilDiv(width, kLanes) * kLanes; i++) offsets[i] = std::min<int64_t>(i, lines - 1) * lineStride;
    F32 block[kLanes];
    // Ahead in the second-level cache: lines a multiple of a page apart share few places of the first.
    constexpr int64_t kAhead = 1024 / sizeof(T), kLine = 64 / sizeof(T);
    for (int64_t item = 0; item < items; item += kLanes) {
      const int64_t n = std::min<int64_t>(items - item, kLanes), left = terms - item * kPer;
      const T* column = from + item * kPer;
      for (int i = 0; i < width; i += kLanes) {
        if (left >= kLanes * kPer) {
          PLINTH_UNROLL
          for (int l = 0; l < kLanes; l++) {
            block[l] = Read::along(column + offsets[i + l], kLanes * kPer);
            for (int64_t t = 0; t < kLanes * kPer; t += kLine) PLINTH_PREFETCH_L2(column + offsets[i + l] + kAhead + t);
          }
        } else {
          for (int l = 0; l < kLanes; l++) block[l] = Read::along(column + offsets[i + l], left);
        }
        simd::transposeBlock(block);
        if (n == kLanes && (item + n - 1) * width + i + kLanes <= items * width) {
          PLINTH_UNROLL
          for (int l = 0; l < kLanes; l++) simd::store(to + (item + l) * width + i, block[l]);
        } else {
          for (int l = 0; l < n; l++) put(item + l, i, block[l]);
        }
      }
    }
  } else {
    for (int64_t item = 0; item < items; item++) {
      for (int i = 0; i < width; i++) {
        const T* element = from + i * lineStride + item * kPer * kStride;
        to[item * width + i] = i < lines ? Read::single(element, kStride, terms - item * kPer) : 0.0f;
      }
    }
  }
}

// Calls fn(T{}) with the type that reads the operand's elements as Terms wants them. Where there are pairs, which are always
// rounded, single terms never are.
template <typename Terms, typename F>
void withOperandElement(const Operand& operand, F&& fn) {
  if constexpr (std::is_same_v<Terms, Bf16Terms> && Terms::kPerItem == 1) {
    if (operand.rounded && operand.dtype == DType::Float16) return fn(Rounded<Float16>{});
    if (operand.rounded && operand.dtype == DType::Float32) return fn(Rounded<float>{});
  }
  switch (operand.dtype) {
    case DType::BFloat16: return fn(BFloat16{});
    case DType::Float16: return fn(Float16{});
    default: return fn(float{});
  }
}

// Packed lines of an operand: panels of `fullWidth` lines, the last one of the width that `widthOf` gives its lines.
struct Panels {
  float* data;
  int64_t lines;
  int fullWidth;
  int (*widthOf)(int64_t lines);
  int64_t stride;

  int64_t count() const { return (lines + fullWidth - 1) / fullWidth; }
  float* at(int64_t panel) const { return data + panel * stride; }
  int64_t linesOf(int64_t panel) const { return std::min<int64_t>(fullWidth, lines - panel * fullWidth); }
  int widthAt(int64_t panel) const { return widthOf(linesOf(panel)); }
};

// Floats between panels: a multiple of a cache line, not of a page.
inline int64_t panelFloats(int width, int64_t items) { return (items * width + 31) / 16 * 16; }

// Packs items [from, to) (counted from term k on, `terms` terms in all) of lines `line` + ... into panels [first, last).
template <typename Terms>
void packPanels(const Operand& operand, int64_t line, const Panels& panels, int64_t first, int64_t last, int64_t k,
                int64_t terms, int64_t from, int64_t to) {
  withOperandElement<Terms>(operand, [&](auto element) {
    using T = decltype(element);
    // Lines side by side in memory are read a few rows of memory at a time, across all panels.
    const int64_t step = operand.lineStride == 1 ? 16 : to - from;
    for (int64_t at = from; at < to; at += step) {
      const int64_t term = at * Terms::kPerItem;
      const int64_t n = std::min(terms, std::min(to, at + step) * Terms::kPerItem) - term;
      for (int64_t i = first; i < last; i++) {
        const int width = panels.widthAt(i);
        packTyped<Terms>(reinterpret_cast<const T*>(operand.at(line + i * panels.fullWidth, k + term)), operand.lineStride,
                         operand.kStride, panels.linesOf(i), n, width, panels.at(i) + at * width);
      }
    }
  });
}

}  // namespace plinth::matmul
