// Vectors of float32 and int32 of the native width behind one interface. One file per instruction set under simd/ gives
//
//   F32, I32, Mask, kLanes
//   zero splat load loadPartial store storePartial      (partial: the first n lanes; others read as 0 and are not written)
//   splatInt loadInt loadIntPartial storeInt storeIntPartial
//   + - * / fma(a,b,c)=a*b+c fnma(a,b,c)=c-a*b (one rounding, but two on SSE2 and WebAssembly) min max sqrt floor
//   roundNearest(ties to even) scalePow2(a,n)=a*2^n
//   + - * multiplyHigh (unsigned) & | ^ shiftLeft<n> shiftRight<n> (arithmetic) shiftRightLogical<n>  on I32
//   bitsOf floatOf (reinterpret) toFloat truncate (convert)
//   less lessEqual equal notEqual greater & | ! any select(mask, ifTrue, ifFalse)
//   reduceAdd reduceMax                                  (a fixed tree over the lanes)
//   widenUnsigned narrow (16 <-> 32 bits), loadF16 storeF16, widenUnsignedPartial
//
// min and max return the second operand when either is NaN (so a NaN in the second is kept); maxNan keeps both.
// This file adds what is the same everywhere. Compile with -ffp-contract=off: products and sums must round alike in every
// inlined copy of a loop, or rows would differ by their place in a block.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(PLINTH_AVX512_BF16)
#include "simd/avx512bf16.h"
#elif defined(__AVX512F__)
#include "simd/avx512.h"
#elif defined(__AVX2__)
#include "simd/avx2.h"
#elif defined(__ARM_NEON)
#include "simd/neon.h"
#elif defined(__wasm_simd128__)
#include "simd/wasm.h"
#elif defined(__SSE2__) || defined(_M_X64)
#include "simd/sse2.h"
#else
#error "no vector instructions known for this processor: add native/simd/<name>.h"
#endif

namespace plinth::simd {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

#ifdef PLINTH_SIMD_GENERIC_PARTIAL
inline F32 loadPartial(const float* p, int n) {
  float lanes[kLanes] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(float));
  return load(lanes);
}
inline void storePartial(float* p, F32 x, int n) {
  float lanes[kLanes];
  store(lanes, x);
  std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(float));
}
inline I32 loadIntPartial(const int32_t* p, int n) {
  int32_t lanes[kLanes] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(int32_t));
  return loadInt(lanes);
}
inline void storeIntPartial(int32_t* p, I32 x, int n) {
  int32_t lanes[kLanes];
  storeInt(lanes, x);
  std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(int32_t));
}
#endif

#if !defined(__AVX512F__)
inline I32 widenUnsignedPartial(const uint16_t* p, int n) {
  uint16_t lanes[kLanes] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(uint16_t));
  return widenUnsigned(lanes);
}
#endif

#ifdef PLINTH_SIMD_GENERIC_SCALE
// 2^n in two factors, so that results below the normal range round once, at the end. |n| <= 252.
inline F32 scalePow2(F32 a, F32 n) {
  const I32 whole = truncate(n);
  const I32 half = shiftRight<1>(whole);
  const I32 bias = splatInt(127);
  return a * floatOf(shiftLeft<23>(half + bias)) * floatOf(shiftLeft<23>(whole - half + bias));
}
#endif

#ifdef PLINTH_SIMD_GENERIC_F16
inline F32 loadF16(const uint16_t* p) {
  const I32 half = widenUnsigned(p);
  const I32 magnitude = half & splatInt(0x7fff);
  // Moved into place, the exponent is 112 too small; the product also makes subnormals normal.
  const F32 scaled = floatOf(shiftLeft<13>(magnitude)) * splat(0x1p112f);
  const Mask special = greater(magnitude, splatInt(0x7bff));
  const I32 bits = bitsOf(scaled) | (select(special, splatInt(0x7f800000), splatInt(0)));
  return floatOf(bits | shiftLeft<16>(half & splatInt(0x8000)));
}
inline void storeF16(uint16_t* p, F32 x) {
  float lanes[kLanes];
  store(lanes, x);
  for (int i = 0; i < kLanes; i++) {
    uint32_t bits;
    std::memcpy(&bits, &lanes[i], 4);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    } else if (magnitude >= 0x477ff000u) {
      half = 0x7c00u;
    } else if (magnitude < 0x38800000u) {
      // Subnormal: adding 2^-1 aligns the last place of float32 with that of float16, and rounds to even.
      float value;
      std::memcpy(&value, &magnitude, 4);
      value += 0.5f;
      std::memcpy(&half, &value, 4);
      half -= 0x3f000000u;
    } else {
      half = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
    }
    p[i] = static_cast<uint16_t>(sign | half);
  }
}
#endif

inline F32 operator-(F32 a) { return floatOf(bitsOf(a) ^ splatInt(INT32_MIN)); }
inline F32 abs(F32 a) { return floatOf(bitsOf(a) & splatInt(INT32_MAX)); }
/** Magnitude of `a` with the sign of `b`. */
inline F32 copySign(F32 a, F32 b) {
  return floatOf((bitsOf(a) & splatInt(INT32_MAX)) | (bitsOf(b) & splatInt(INT32_MIN)));
}
inline F32 maxNan(F32 a, F32 b) { return select(notEqual(a, a), a, max(a, b)); }
inline F32 minNan(F32 a, F32 b) { return select(notEqual(a, a), a, min(a, b)); }
/** 1.0 where the mask holds, else 0.0. */
inline F32 oneWhere(Mask m) { return select(m, splat(1.0f), zero()); }
/** 0, 1, 2, ... */
inline I32 iota() {
  alignas(64) static constexpr int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return loadInt(lanes);
}

inline F32 loadBf16(const uint16_t* p) { return floatOf(shiftLeft<16>(widenUnsigned(p))); }
/** Bits of the nearest bfloat16 (ties to even) in the upper halves, anything in the lower; NaN stays a (quiet) NaN. */
inline I32 bf16Bits(F32 x) {
  const I32 bits = bitsOf(x);
  const I32 rounded = bits + splatInt(0x7fff) + (shiftRightLogical<16>(bits) & splatInt(1));
  return select(notEqual(x, x), bits | splatInt(0x400000), rounded);
}
/** The nearest bfloat16 as a float32. */
inline F32 roundToBf16(F32 x) { return floatOf(bf16Bits(x) & splatInt(static_cast<int32_t>(0xffff0000u))); }
inline void storeBf16(uint16_t* p, F32 x) { narrow(p, shiftRightLogical<16>(bf16Bits(x))); }

/** Loads n <= kLanes elements, the rest 0. */
inline F32 loadUpTo(const float* p, int n) { return n >= kLanes ? load(p) : loadPartial(p, n); }
inline void storeUpTo(float* p, F32 x, int n) {
  if (n >= kLanes) store(p, x);
  else storePartial(p, x, n);
}

}  // namespace plinth::simd
