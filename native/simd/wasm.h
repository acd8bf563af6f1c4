// WebAssembly SIMD128: four lanes, masks as all-ones lanes. No fused multiply-add: products and sums round separately, as
// on SSE2 (relaxed SIMD has one, but leaves it to each browser whether it rounds once or twice). Interface described in
// ../simd.h.
#pragma once
#include <wasm_simd128.h>

namespace plinth::simd {

constexpr int kLanes = 4;

struct F32 { v128_t v; };
struct I32 { v128_t v; };
struct Mask { v128_t v; };

inline F32 zero() { return {wasm_f32x4_const_splat(0.0f)}; }
inline F32 splat(float x) { return {wasm_f32x4_splat(x)}; }
inline F32 load(const float* p) { return {wasm_v128_load(p)}; }
inline void store(float* p, F32 x) { wasm_v128_store(p, x.v); }
inline I32 splatInt(int32_t x) { return {wasm_i32x4_splat(x)}; }
inline I32 loadInt(const int32_t* p) { return {wasm_v128_load(p)}; }
inline void storeInt(int32_t* p, I32 x) { wasm_v128_store(p, x.v); }

inline I32 bitsOf(F32 a) { return {a.v}; }
inline F32 floatOf(I32 a) { return {a.v}; }
inline F32 toFloat(I32 a) { return {wasm_f32x4_convert_i32x4(a.v)}; }
inline I32 truncate(F32 a) { return {wasm_i32x4_trunc_sat_f32x4(a.v)}; }

inline F32 operator+(F32 a, F32 b) { return {wasm_f32x4_add(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {wasm_f32x4_sub(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {wasm_f32x4_mul(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {wasm_f32x4_div(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
inline F32 fnma(F32 a, F32 b, F32 c) { return c - a * b; }
// pmin(x, y) is y < x ? y : x, and pmax(x, y) is x < y ? y : x: with the operands swapped the second one survives a NaN.
inline F32 min(F32 a, F32 b) { return {wasm_f32x4_pmin(b.v, a.v)}; }
inline F32 max(F32 a, F32 b) { return {wasm_f32x4_pmax(b.v, a.v)}; }
inline F32 sqrt(F32 a) { return {wasm_f32x4_sqrt(a.v)}; }
inline F32 floor(F32 a) { return {wasm_f32x4_floor(a.v)}; }
inline F32 roundNearest(F32 a) { return {wasm_f32x4_nearest(a.v)}; }

inline I32 operator+(I32 a, I32 b) { return {wasm_i32x4_add(a.v, b.v)}; }
inline I32 operator-(I32 a, I32 b) { return {wasm_i32x4_sub(a.v, b.v)}; }
inline I32 operator*(I32 a, I32 b) { return {wasm_i32x4_mul(a.v, b.v)}; }
inline I32 multiplyHigh(I32 a, I32 b) {
  const v128_t low = wasm_u64x2_extmul_low_u32x4(a.v, b.v), high = wasm_u64x2_extmul_high_u32x4(a.v, b.v);
  return {wasm_i32x4_shuffle(low, high, 1, 3, 5, 7)};
}
inline I32 operator&(I32 a, I32 b) { return {wasm_v128_and(a.v, b.v)}; }
inline I32 operator|(I32 a, I32 b) { return {wasm_v128_or(a.v, b.v)}; }
inline I32 operator^(I32 a, I32 b) { return {wasm_v128_xor(a.v, b.v)}; }
template <int n> I32 shiftLeft(I32 a) { return {wasm_i32x4_shl(a.v, n)}; }
template <int n> I32 shiftRight(I32 a) { return {wasm_i32x4_shr(a.v, n)}; }
template <int n> I32 shiftRightLogical(I32 a) { return {wasm_u32x4_shr(a.v, n)}; }

inline Mask less(F32 a, F32 b) { return {wasm_f32x4_lt(a.v, b.v)}; }
inline Mask lessEqual(F32 a, F32 b) { return {wasm_f32x4_le(a.v, b.v)}; }
inline Mask equal(F32 a, F32 b) { return {wasm_f32x4_eq(a.v, b.v)}; }
inline Mask notEqual(F32 a, F32 b) { return {wasm_f32x4_ne(a.v, b.v)}; }
inline Mask equal(I32 a, I32 b) { return {wasm_i32x4_eq(a.v, b.v)}; }
inline Mask greater(I32 a, I32 b) { return {wasm_i32x4_gt(a.v, b.v)}; }
inline Mask operator&(Mask a, Mask b) { return {wasm_v128_and(a.v, b.v)}; }
inline Mask operator|(Mask a, Mask b) { return {wasm_v128_or(a.v, b.v)}; }
inline Mask operator!(Mask a) { return {wasm_v128_not(a.v)}; }
inline bool any(Mask a) { return wasm_v128_any_true(a.v); }
inline F32 select(Mask m, F32 a, F32 b) { return {wasm_v128_bitselect(a.v, b.v, m.v)}; }
inline I32 select(Mask m, I32 a, I32 b) { return {wasm_v128_bitselect(a.v, b.v, m.v)}; }

inline float reduceAdd(F32 a) {
  const v128_t q = wasm_f32x4_add(a.v, wasm_i32x4_shuffle(a.v, a.v, 2, 3, 2, 3));
  return wasm_f32x4_extract_lane(q, 0) + wasm_f32x4_extract_lane(q, 1);
}
inline float reduceMax(F32 a) {
  const v128_t moved = wasm_i32x4_shuffle(a.v, a.v, 2, 3, 2, 3);
  const F32 q = max(a, F32{moved});
  const float x = wasm_f32x4_extract_lane(q.v, 0), y = wasm_f32x4_extract_lane(q.v, 1);
  return x > y ? x : y;
}

inline I32 widenUnsigned(const uint16_t* p) { return {wasm_u32x4_load16x4(p)}; }
inline void narrow(uint16_t* p, I32 x) {
  wasm_v128_store64_lane(p, wasm_i16x8_shuffle(x.v, x.v, 0, 2, 4, 6, 0, 2, 4, 6), 0);
}

}  // namespace plinth::simd
#define PLINTH_SIMD_GENERIC_PARTIAL 1
#define PLINTH_SIMD_GENERIC_SCALE 1
#define PLINTH_SIMD_GENERIC_F16 1
