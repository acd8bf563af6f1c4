// Copies pieces of a strided operand into panels: for each k, the `width` values that a register tile reads together.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/element.h"
#include "kernels/transpose.h"
#include "tensor.h"

namespace plinth::matmul {

using simd::F32;
using simd::kLanes;

// One operand seen as lines (rows of A, columns of B) of K terms each. Strides in elements.
struct Operand {
  const char* data;
  DType dtype;
  int64_t lineStride;
  int64_t kStride;

  const char* at(int64_t line, int64_t k) const { return data + (line * lineStride + k * kStride) * bytesOf(dtype); }
};

// Room for a panel, in floats: writing runs over its end by less than a vector.
inline int64_t panelFloats(int width, int64_t kc) { return (kc * width + kLanes + 15) / 16 * 16; }

// to[k][width] = the lines' terms, 0 beyond `lines`. width <= kLanes or a multiple of kLanes.
template <typename T>
void packTyped(const T* from, int64_t lineStride, int64_t kStride, int64_t lines, int64_t kc, int width, float* to) {
  if (lineStride == 1) {
    // Stores may run into the next k's place, which is written next.
    for (int64_t k = 0; k < kc; k++) {
      for (int i = 0; i < width; i += kLanes) {
        const int64_t n = std::min<int64_t>(lines, width) - i;
        simd::store(to + k * width + i, loadVectorUpTo(from + k * kStride + i, n));
      }
    }
  } else if (kStride == 1) {
    F32 block[kLanes];
    for (int64_t k = 0; k < kc; k += kLanes) {
      const int64_t n = std::min<int64_t>(kc - k, kLanes);
      for (int i = 0; i < width; i += kLanes) {
        const int64_t valid = lines - i;
        if (n == kLanes && valid >= kLanes) {
          for (int l = 0; l < kLanes; l++) block[l] = loadVector(from + (i + l) * lineStride + k);
        } else {
          for (int l = 0; l < kLanes; l++) block[l] = loadVectorUpTo(from + (i + l) * lineStride + k, l < valid ? n : 0);
        }
        simd::transposeBlock(block);
        for (int64_t l = 0; l < n; l++) simd::store(to + (k + l) * width + i, block[l]);
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

inline void pack(const Operand& operand, int64_t line, int64_t lines, int64_t k, int64_t kc, int width, float* to) {
  const char* from = operand.at(line, k);
  switch (operand.dtype) {
    case DType::BFloat16:
      return packTyped(reinterpret_cast<const BFloat16*>(from), operand.lineStride, operand.kStride, lines, kc, width, to);
    case DType::Float16:
      return packTyped(reinterpret_cast<const Float16*>(from), operand.lineStride, operand.kStride, lines, kc, width, to);
    default:
      return packTyped(reinterpret_cast<const float*>(from), operand.lineStride, operand.kStride, lines, kc, width, to);
  }
}

}  // namespace plinth::matmul
