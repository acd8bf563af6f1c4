// Copies pieces of a strided operand into panels: for each k, the `width` values that a register tile reads together.
#pragma once

#include <algorithm>
#include <cstdint>

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

// One operand seen as lines (rows of A, columns of B) of K terms each. Strides in elements.
struct Operand {
  const char* data;
  DType dtype;
  int64_t lineStride;
  int64_t kStride;
  bool rounded = false;  // to bfloat16, as it is read

  const char* at(int64_t line, int64_t k) const { return data + (line * lineStride + k * kStride) * bytesOf(dtype); }
};

// to[k][width] = the lines' terms, 0 beyond `lines`. width <= kLanes or a multiple of kLanes.
template <typename T>
void packTyped(const T* from, int64_t lineStride, int64_t kStride, int64_t lines, int64_t kc, int width, float* to) {
  // A store of a full vector may run into the places of the next k, which are written next, but not beyond the end: there
  // another task may be writing.
  const auto put = [&](int64_t k, int i, F32 x) {
    if (k * width + i + kLanes <= kc * width) simd::store(to + k * width + i, x);
    else simd::storePartial(to + k * width + i, x, width - i);
  };
  if (lineStride == 1) {
    for (int64_t k = 0; k < kc; k++) {
      for (int i = 0; i < width; i += kLanes) put(k, i, loadVectorUpTo(from + k * kStride + i, lines - i));
    }
  } else if (kStride == 1) {
    F32 block[kLanes];
    constexpr int64_t kAhead = 512 / sizeof(T);
    for (int64_t k = 0; k < kc; k += kLanes) {
      const int64_t n = std::min<int64_t>(kc - k, kLanes);
      for (int i = 0; i < width; i += kLanes) {
        const int64_t valid = lines - i;
        if (n == kLanes) {
          PLINTH_UNROLL
          for (int l = 0; l < kLanes; l++) {
            const T* line = from + (i + l) * lineStride + k;
            block[l] = l < valid ? loadVector(line) : simd::zero();
            PLINTH_PREFETCH(line + kAhead);
          }
        } else {
          for (int l = 0; l < kLanes; l++) {
            block[l] = l < valid ? loadVectorUpTo(from + (i + l) * lineStride + k, n) : simd::zero();
          }
        }
        simd::transposeBlock(block);
        if (n == kLanes && (k + n - 1) * width + i + kLanes <= kc * width) {
          PLINTH_UNROLL
          for (int l = 0; l < kLanes; l++) simd::store(to + (k + l) * width + i, block[l]);
        } else {
          for (int l = 0; l < n; l++) put(k + l, i, block[l]);
        }
      }
    }
  } else {
    for (int64_t k = 0; k < kc; k++) {
      for (int i = 0; i < width; i++) {
        to[k * width + i] = i < lines ? toFloat(from[i * lineStride + k * kStride]) : 0.0f;
      }
    }
  }
}

// Calls fn(T{}) with the type that reads the operand's elements.
template <typename F>
void withOperandElement(const Operand& operand, F&& fn) {
  switch (operand.dtype) {
    case DType::BFloat16: return fn(BFloat16{});
    case DType::Float16: return operand.rounded ? fn(Rounded<Float16>{}) : fn(Float16{});
    default: return operand.rounded ? fn(Rounded<float>{}) : fn(float{});
  }
}

inline void pack(const Operand& operand, int64_t line, int64_t lines, int64_t k, int64_t kc, int width, float* to) {
  withOperandElement(operand, [&](auto element) {
    packTyped(reinterpret_cast<const decltype(element)*>(operand.at(line, k)), operand.lineStride, operand.kStride, lines, kc,
              width, to);
  });
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
inline int64_t panelFloats(int width, int64_t kc) { return (kc * width + 31) / 16 * 16; }

// Packs terms k + [kFrom, kTo) of lines `line` + ... into panels [from, to).
inline void packPanels(const Operand& operand, int64_t line, const Panels& panels, int64_t from, int64_t to, int64_t k,
                       int64_t kFrom, int64_t kTo) {
  // Lines side by side in memory are read a few rows of memory at a time, across all panels.
  const int64_t step = operand.lineStride == 1 ? 16 : kTo - kFrom;
  for (int64_t at = kFrom; at < kTo; at += step) {
    for (int64_t i = from; i < to; i++) {
      const int width = panels.widthAt(i);
      pack(operand, line + i * panels.fullWidth, panels.linesOf(i), k + at, std::min(step, kTo - at), width,
           panels.at(i) + at * width);
    }
  }
}

}  // namespace plinth::matmul
