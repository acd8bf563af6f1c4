// Operands and results of the fused kernel: reading a strided, broadcast window on memory as a run of the row-major
// iteration order, and writing a run back in the output's element type.
#pragma once
#include <algorithm>
#include <cstring>

#include "../simd.h"
#include "../tensor.h"
#include "element.h"

namespace plinth {

class Operand {
 public:
  bool mustCopy = false;  // its memory may be overwritten while its value is needed

  explicit Operand(const Tensor& t) : dtype_(t.dtype), data_(t.as<char>()) {
    // Merge neighbouring axes that one stride can walk.
    for (int i = 0; i < t.rank; i++) {
      if (t.shape[i] == 1) continue;
      if (rank_ > 0 && strides_[rank_ - 1] == t.strides[i] * t.shape[i]) {
        shape_[rank_ - 1] *= t.shape[i];
        strides_[rank_ - 1] = t.strides[i];
      } else {
        shape_[rank_] = t.shape[i];
        strides_[rank_] = t.strides[i];
        rank_++;
      }
    }
    if (rank_ == 0) {
      shape_[0] = 1;
      strides_[0] = 0;
      rank_ = 1;
    }
  }

  bool isScalar() const { return rank_ == 1 && strides_[0] == 0; }

  /** Fills a block with a scalar operand's value. */
  void readScalar(int64_t n, float* to) const {
    float value;
    switch (dtype_) {
      case DType::Float32:
      case DType::Int32: std::memcpy(&value, data_, 4); break;
      case DType::BFloat16:
      case DType::Float16: value = widenOne(*reinterpret_cast<const uint16_t*>(data_)); break;
      case DType::Bool: value = *data_ != 0 ? 1.0f : 0.0f; break;
    }
    std::fill_n(to, n, value);
  }

  /** The run's own memory where it is 32-bit, contiguous and safe to point into; else nullptr. */
  const float* direct(int64_t begin, int64_t n) const {
    if (mustCopy || strides_[rank_ - 1] != 1 || bytesOf(dtype_) != 4) return nullptr;
    if (rank_ == 1) return reinterpret_cast<const float*>(data_) + begin;
    const int64_t inner = shape_[rank_ - 1], column = begin % inner;
    if (column + n > inner) return nullptr;
    return reinterpret_cast<const float*>(data_) + offsetOf(begin / inner) + column;
  }

  /** Copies elements [begin, begin + n) of the iteration order to `to`, widened to 32 bits. Returns `to`. */
  float* read(int64_t begin, int64_t n, float* to) const {
    switch (dtype_) {
      case DType::Float32:
      case DType::Int32: readAs<uint32_t>(begin, n, to); break;
      case DType::BFloat16:
      case DType::Float16: readAs<uint16_t>(begin, n, to); break;
      case DType::Bool: readAs<uint8_t>(begin, n, to); break;
    }
    return to;
  }

 private:
  // Offset of a row: `row` counts in row-major order over all axes but the innermost.
  int64_t offsetOf(int64_t row) const {
    int64_t offset = 0;
    for (int i = rank_ - 2; i >= 0; i--) {
      offset += row % shape_[i] * strides_[i];
      row /= shape_[i];
    }
    return offset;
  }

  template <typename T>
  void readAs(int64_t begin, int64_t n, float* to) const {
    const int64_t inner = shape_[rank_ - 1], stride = strides_[rank_ - 1];
    int64_t row = begin / inner, column = begin % inner;
    const T* base = reinterpret_cast<const T*>(data_);
    while (n > 0) {
      const int64_t count = std::min(n, inner - column);
      const T* from = base + offsetOf(row) + column * stride;
      if (stride == 0) fill(from, count, to);
      else if (stride == 1) widen(from, count, to);
      else gatherRun(from, stride, count, to);
      to += count;
      n -= count;
      row++;
      column = 0;
    }
  }

  void fill(const uint32_t* from, int64_t n, float* to) const {
    float x;
    std::memcpy(&x, from, 4);
    std::fill_n(to, n, x);
  }
  void fill(const uint16_t* from, int64_t n, float* to) const { std::fill_n(to, n, widenOne(*from)); }
  void fill(const uint8_t* from, int64_t n, float* to) const { std::fill_n(to, n, *from != 0 ? 1.0f : 0.0f); }

  void widen(const uint32_t* from, int64_t n, float* to) const { std::memcpy(to, from, static_cast<size_t>(n) * 4); }
  void widen(const uint16_t* from, int64_t n, float* to) const {
    int64_t i = 0;
    for (; i + simd::kLanes <= n; i += simd::kLanes) {
      simd::store(to + i, dtype_ == DType::BFloat16 ? simd::loadBf16(from + i) : simd::loadF16(from + i));
    }
    for (; i < n; i++) to[i] = widenOne(from[i]);
  }
  void widen(const uint8_t* from, int64_t n, float* to) const {
    for (int64_t i = 0; i < n; i++) to[i] = from[i] != 0 ? 1.0f : 0.0f;
  }

  void gatherRun(const uint32_t* from, int64_t stride, int64_t n, float* to) const {
    for (int64_t i = 0; i < n; i++) std::memcpy(to + i, from + i * stride, 4);
  }
  void gatherRun(const uint16_t* from, int64_t stride, int64_t n, float* to) const {
    for (int64_t i = 0; i < n; i++) to[i] = widenOne(from[i * stride]);
  }
  void gatherRun(const uint8_t* from, int64_t stride, int64_t n, float* to) const {
    for (int64_t i = 0; i < n; i++) to[i] = from[i * stride] != 0 ? 1.0f : 0.0f;
  }

  float widenOne(uint16_t x) const { return dtype_ == DType::BFloat16 ? bfloat16ToFloat(x) : float16ToFloat(x); }

  DType dtype_;
  const char* data_;
  int rank_ = 0;
  int64_t shape_[kMaxRank], strides_[kMaxRank];
};

/** Writes a register block to elements [begin, begin + n) of a row-major output, converting to its element type. */
inline void storeBlock(const Tensor& out, int64_t begin, int64_t n, const float* from, bool isInt) {
  const auto asInt = [&](int64_t i) {
    int32_t x;
    std::memcpy(&x, from + i, 4);
    return x;
  };
  switch (out.dtype) {
    case DType::Float32:
      if (isInt) {
        for (int64_t i = 0; i < n; i++) out.as<float>()[begin + i] = static_cast<float>(asInt(i));
      } else {
        std::memmove(out.as<float>() + begin, from, static_cast<size_t>(n) * 4);
      }
      return;
    case DType::Int32:
      if (isInt) {
        std::memmove(out.as<int32_t>() + begin, from, static_cast<size_t>(n) * 4);
      } else {
        for (int64_t i = 0; i < n; i++) out.as<int32_t>()[begin + i] = convert<int32_t>(from[i]);
      }
      return;
    case DType::BFloat16:
    case DType::Float16: {
      const bool bf16 = out.dtype == DType::BFloat16;
      uint16_t* to = out.as<uint16_t>() + begin;
      int64_t i = 0;
      if (!isInt) {
        for (; i + simd::kLanes <= n; i += simd::kLanes) {
          if (bf16) simd::storeBf16(to + i, simd::load(from + i));
          else simd::storeF16(to + i, simd::load(from + i));
        }
      }
      for (; i < n; i++) {
        const float x = isInt ? static_cast<float>(asInt(i)) : from[i];
        to[i] = bf16 ? floatToBfloat16(x) : floatToFloat16(x);
      }
      return;
    }
    case DType::Bool:
      for (int64_t i = 0; i < n; i++) out.as<uint8_t>()[begin + i] = isInt ? asInt(i) != 0 : from[i] != 0.0f;
      return;
  }
}

}  // namespace plinth
