// Element types and the strided window on memory that every kernel receives.
#pragma once

#include <bit>
#include <cstdint>

namespace plinth {

// Codes shared with `src/engine/ir/dtype.ts`.
enum class DType : int32_t { Float32 = 0, BFloat16 = 1, Float16 = 2, Int32 = 3, Bool = 4 };
constexpr int kDTypes = 5;
constexpr int kMaxRank = 8;

constexpr int64_t bytesOf(DType dtype) {
  return dtype == DType::Bool ? 1 : (dtype == DType::BFloat16 || dtype == DType::Float16) ? 2 : 4;
}

inline const char* nameOf(DType dtype) {
  static const char* const names[kDTypes] = {"float32", "bfloat16", "float16", "int32", "bool"};
  return names[static_cast<int>(dtype)];
}

struct Tensor {
  void* data;
  DType dtype;
  int rank;
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank];  // in elements; 0 on broadcast axes

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }

  // Number of elements: 1 for a scalar, 0 if any axis is empty.
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }

  // Size of the axis counted from the end (last(0) is the innermost); 1 beyond the rank.
  int64_t last(int i) const { return i < rank ? shape[rank - 1 - i] : 1; }

  // Number of rows when all axes but the last are flattened.
  int64_t rows() const { return rank == 0 ? 1 : (last(0) == 0 ? 0 : size() / last(0)); }

  bool isRowMajor() const {
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
      if (shape[i] != 1 && strides[i] != step) return false;
      step *= shape[i];
    }
    return true;
  }
};

// Narrow floats <-> float32, one value at a time. Rounds to nearest, ties to even; NaN stays NaN.
inline float bfloat16ToFloat(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

inline uint16_t floatToBfloat16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

inline float float16ToFloat(uint16_t x) {
  const uint32_t sign = static_cast<uint32_t>(x & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x & 0x7fff) << 13;  // exponent and fraction in float32's places
  const uint32_t exponent = magnitude & 0x0f800000u;
  uint32_t bits = magnitude + 0x38000000u;  // rebias by 112
  if (exponent == 0x0f800000u) {            // infinity, NaN
    bits += 0x38000000u;
  } else if (exponent == 0) {  // zero, subnormal: the subtraction renormalises
    bits = std::bit_cast<uint32_t>(std::bit_cast<float>(bits + 0x00800000u) - 6.103515625e-05f);
  }
  return std::bit_cast<float>(bits | sign);
}

inline uint16_t floatToFloat16(float f) {
  const uint32_t signedBits = std::bit_cast<uint32_t>(f);
  const uint16_t sign = static_cast<uint16_t>((signedBits >> 16) & 0x8000);
  const uint32_t bits = signedBits & 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((bits >> 13) & 0x1ffu));
  if (bits >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 to 65536 become infinite below
  if (bits < 0x38800000u) {                                             // subnormal: let the adder round
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(std::bit_cast<float>(bits) + 0.5f) - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1)) >> 13));
}

}  // namespace plinth
