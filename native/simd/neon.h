// NEON on AArch64: four lanes, masks as all-ones lanes. Interface described in ../simd.h.
#pragma once
#include <arm_neon.h>

namespace plinth::simd {

constexpr int kLanes = 4;

struct F32 { float32x4_t v; };
struct I32 { int32x4_t v; };
struct Mask { uint32x4_t v; };

inline F32 zero() { return {vdupq_n_f32(0.0f)}; }
inline F32 splat(float x) { return {vdupq_n_f32(x)}; }
inline F32 load(const float* p) { return {vld1q_f32(p)}; }
inline void store(float* p, F32 x) { vst1q_f32(p, x.v); }
inline I32 splatInt(int32_t x) { return {vdupq_n_s32(x)}; }
inline I32 loadInt(const int32_t* p) { return {vld1q_s32(p)}; }
inline void storeInt(int32_t* p, I32 x) { vst1q_s32(p, x.v); }

inline I32 bitsOf(F32 a) { return {vreinterpretq_s32_f32(a.v)}; }
inline F32 floatOf(I32 a) { return {vreinterpretq_f32_s32(a.v)}; }
inline F32 toFloat(I32 a) { return {vcvtq_f32_s32(a.v)}; }
inline I32 truncate(F32 a) { return {vcvtq_s32_f32(a.v)}; }

inline F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline F32 fnma(F32 a, F32 b, F32 c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
// Compare and select rather than vminq/vmaxq, whose NaN rule differs from the one in ../simd.h.
inline F32 min(F32 a, F32 b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
inline F32 sqrt(F32 a) { return {vsqrtq_f32(a.v)}; }
inline F32 floor(F32 a) { return {vrndmq_f32(a.v)}; }
inline F32 roundNearest(F32 a) { return {vrndnq_f32(a.v)}; }

inline I32 operator+(I32 a, I32 b) { return {vaddq_s32(a.v, b.v)}; }
inline I32 operator-(I32 a, I32 b) { return {vsubq_s32(a.v, b.v)}; }
inline I32 operator*(I32 a, I32 b) { return {vmulq_s32(a.v, b.v)}; }
inline I32 multiplyHigh(I32 a, I32 b) {
  const uint32x4_t x = vreinterpretq_u32_s32(a.v), y = vreinterpretq_u32_s32(b.v);
  const uint32x4_t low = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vget_low_u32(y)));
  const uint32x4_t high = vreinterpretq_u32_u64(vmull_u32(vget_high_u32(x), vget_high_u32(y)));
  return {vreinterpretq_s32_u32(vuzp2q_u32(low, high))};
}
inline I32 operator&(I32 a, I32 b) { return {vandq_s32(a.v, b.v)}; }
inline I32 operator|(I32 a, I32 b) { return {vorrq_s32(a.v, b.v)}; }
inline I32 operator^(I32 a, I32 b) { return {veorq_s32(a.v, b.v)}; }
template <int n> I32 shiftLeft(I32 a) { return {vshlq_n_s32(a.v, n)}; }
template <int n> I32 shiftRight(I32 a) { return {vshrq_n_s32(a.v, n)}; }
template <int n> I32 shiftRightLogical(I32 a) {
  return {vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v), n))};
}

inline Mask less(F32 a, F32 b) { return {vcltq_f32(a.v, b.v)}; }
inline Mask lessEqual(F32 a, F32 b) { return {vcleq_f32(a.v, b.v)}; }
inline Mask equal(F32 a, F32 b) { return {vceqq_f32(a.v, b.v)}; }
inline Mask notEqual(F32 a, F32 b) { return {vmvnq_u32(vceqq_f32(a.v, b.v))}; }
inline Mask equal(I32 a, I32 b) { return {vceqq_s32(a.v, b.v)}; }
inline Mask greater(I32 a, I32 b) { return {vcgtq_s32(a.v, b.v)}; }
inline Mask operator&(Mask a, Mask b) { return {vandq_u32(a.v, b.v)}; }
inline Mask operator|(Mask a, Mask b) { return {vorrq_u32(a.v, b.v)}; }
inline Mask operator!(Mask a) { return {vmvnq_u32(a.v)}; }
inline bool any(Mask a) { return vmaxvq_u32(a.v) != 0; }
inline F32 select(Mask m, F32 a, F32 b) { return {vbslq_f32(m.v, a.v, b.v)}; }
inline I32 select(Mask m, I32 a, I32 b) { return {vbslq_s32(m.v, a.v, b.v)}; }

inline float reduceAdd(F32 a) {
  const float32x2_t h = vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v));
  return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}
inline float reduceMax(F32 a) {
  const float x = vgetq_lane_f32(a.v, 0), y = vgetq_lane_f32(a.v, 1);
  const float z = vgetq_lane_f32(a.v, 2), w = vgetq_lane_f32(a.v, 3);
  const float xz = x > z ? x : z, yw = y > w ? y : w;
  return xz > yw ? xz : yw;
}

inline I32 widenUnsigned(const uint16_t* p) { return {vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p)))}; }
inline void narrow(uint16_t* p, I32 x) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(x.v))); }
inline F32 loadF16(const uint16_t* p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))}; }
inline void storeF16(uint16_t* p, F32 x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.v))); }

}  // namespace plinth::simd
#define PLINTH_SIMD_GENERIC_PARTIAL 1
#define PLINTH_SIMD_GENERIC_SCALE 1
