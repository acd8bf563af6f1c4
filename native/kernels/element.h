// Element types as C++ types, their conversions, and vectors of them widened to float32.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "simd.h"
#include "tensor.h"

namespace plinth {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};
struct Bool {
  uint8_t value;
};

template <typename T>
constexpr bool kIsFloat = std::is_same_v<T, float> || std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

inline float toFloat(float x) { return x; }
inline float toFloat(BFloat16 x) { return bfloat16ToFloat(x.bits); }
inline float toFloat(Float16 x) { return float16ToFloat(x.bits); }
inline float toFloat(int32_t x) { return static_cast<float>(x); }
inline float toFloat(Bool x) { return x.value != 0 ? 1.0f : 0.0f; }

// Floats round to nearest even; integers are truncated and clamped, NaN gives 0; bool is "not zero".
template <typename To, typename From>
To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<To, Bool>) {
    if constexpr (std::is_same_v<From, int32_t>) return {static_cast<uint8_t>(x != 0)};
    else return {static_cast<uint8_t>(toFloat(x) != 0.0f)};
  } else if constexpr (std::is_same_v<To, int32_t>) {
    if constexpr (std::is_same_v<From, Bool>) return x.value != 0;
    const float f = toFloat(x);
    if (f != f) return 0;
    if (f >= 2147483648.0f) return INT32_MAX;
    if (f < -2147483648.0f) return INT32_MIN;
    return static_cast<int32_t>(f);
  } else if constexpr (std::is_same_v<To, float>) {
    return toFloat(x);
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return {floatToBfloat16(toFloat(x))};
  } else {
    return {floatToFloat16(toFloat(x))};
  }
}

inline simd::F32 loadVector(const float* p) { return simd::load(p); }
inline simd::F32 loadVector(const BFloat16* p) { return simd::loadBf16(&p->bits); }
inline simd::F32 loadVector(const Float16* p) { return simd::loadF16(&p->bits); }
inline void storeVector(float* p, simd::F32 x) { simd::store(p, x); }
inline void storeVector(BFloat16* p, simd::F32 x) { simd::storeBf16(&p->bits, x); }
inline void storeVector(Float16* p, simd::F32 x) { simd::storeF16(&p->bits, x); }

// The first n elements (none if n <= 0), the rest 0; reads nothing beyond them.
template <typename T>
simd::F32 loadVectorUpTo(const T* p, int64_t n) {
  if (n >= simd::kLanes) return loadVector(p);
  if (n <= 0) return simd::zero();
  if constexpr (std::is_same_v<T, float>) {
    return simd::loadPartial(p, static_cast<int>(n));
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return simd::floatOf(simd::shiftLeft<16>(simd::widenUnsignedPartial(&p->bits, static_cast<int>(n))));
  } else {
    T lanes[simd::kLanes] = {};
    std::copy(p, p + n, lanes);
    return loadVector(lanes);
  }
}

// Writes the first n lanes, rounded to T.
template <typename T>
void storeVectorUpTo(T* p, simd::F32 x, int64_t n) {
  if (n >= simd::kLanes) return storeVector(p, x);
  if constexpr (std::is_same_v<T, float>) {
    simd::storePartial(p, x, static_cast<int>(n));
  } else {
    T lanes[simd::kLanes];
    storeVector(lanes, x);
    std::copy(lanes, lanes + n, p);
  }
}

// Calls fn(T{}) with the C++ type of a float `dtype`; `what` opens the message where it is none.
template <typename F>
void withFloat(DType dtype, const char* what, F&& fn) {
  switch (dtype) {
    case DType::Float32: return fn(float{});
    case DType::BFloat16: return fn(BFloat16{});
    case DType::Float16: return fn(Float16{});
    default: throw std::runtime_error(what);
  }
}

// Calls fn(T{}) with the C++ type of `dtype`.
template <typename F>
void withElement(DType dtype, F&& fn) {
  switch (dtype) {
    case DType::Float32: return fn(float{});
    case DType::BFloat16: return fn(BFloat16{});
    case DType::Float16: return fn(Float16{});
    case DType::Int32: return fn(int32_t{});
    case DType::Bool: return fn(Bool{});
  }
}

}  // namespace plinth
