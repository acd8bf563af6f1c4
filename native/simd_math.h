// Elementary functions over vectors, within about 2 units in the last place of float32. Polynomials are least-maximum
// fits made for these intervals. NaN gives NaN; infinities give the limits.
#pragma once
#include "simd.h"

#if defined(__GNUC__)
#define PLINTH_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define PLINTH_ALWAYS_INLINE inline
#endif

namespace plinth::simd {

/** c[0] + c[1] x + c[2] x^2 + ... */
template <int n>
inline F32 polynomial(F32 x, const float (&c)[n]) {
  F32 y = splat(c[n - 1]);
  for (int i = n - 2; i >= 0; i--) y = fma(y, x, splat(c[i]));
  return y;
}

/** e^x = 2^n e^r with |r| <= ln(2)/2. Gradual underflow below -87, infinity above 88.7. */
inline F32 exp(F32 x) {
  constexpr float c[] = {5.000000000e-01f, 1.666651219e-01f, 4.166618735e-02f, 8.369598538e-03f, 1.395171741e-03f};
  x = min(splat(89.0f), max(splat(-105.0f), x));
  const F32 n = roundNearest(x * splat(1.44269504f));
  F32 r = fnma(n, splat(0x1.62e4p-1f), x);
  r = fnma(n, splat(1.42860677e-6f), r);
  const F32 y = fma(r * r, polynomial(r, c), r) + splat(1.0f);
  return scalePow2(y, n);
}

/** Natural logarithm: -inf at 0, NaN below. */
inline F32 log(F32 x) {
  constexpr float c[] = {3.333331645e-01f,  -2.500081062e-01f, 2.000228614e-01f,  -1.662455350e-01f,
                         1.418119669e-01f, -1.312876791e-01f, 1.288162172e-01f, -7.859545946e-02f};
  const Mask tiny = less(x, splat(0x1p-126f));
  const F32 y = select(tiny, x * splat(0x1p25f), x);
  // Shift the bits so that the mantissa falls in [sqrt(1/2), sqrt(2)).
  const I32 bits = bitsOf(y) - splatInt(0x3f3504f3);
  const F32 exponent = toFloat(shiftRight<23>(bits)) - select(tiny, splat(25.0f), zero());
  const F32 f = floatOf((bits & splatInt(0x007fffff)) + splatInt(0x3f3504f3)) - splat(1.0f);
  const F32 square = f * f;
  F32 r = square * f * polynomial(f, c);
  r = fma(exponent, splat(-2.12194440e-4f), r);
  r = fnma(square, splat(0.5f), r) + f;
  r = fma(exponent, splat(0.693359375f), r);
  r = select(equal(x, zero()), splat(-kInfinity), r);
  r = select(less(x, zero()), splat(std::numeric_limits<float>::quiet_NaN()), r);
  return select(less(x, splat(kInfinity)), r, select(equal(x, splat(kInfinity)), x, x + x));
}

inline F32 reciprocal(F32 x) { return splat(1.0f) / x; }

inline F32 sigmoid(F32 x) { return reciprocal(splat(1.0f) + exp(-x)); }

inline F32 tanh(F32 x) {
  constexpr float c[] = {-3.333326280e-01f, 1.333089918e-01f, -5.369297042e-02f, 2.048332058e-02f, -5.528637208e-03f};
  const F32 square = x * x;
  const F32 small = fma(square * x, polynomial(square, c), x);
  const F32 magnitude = abs(x);
  const F32 large = splat(1.0f) - splat(2.0f) / (exp(magnitude + magnitude) + splat(1.0f));
  return select(less(magnitude, splat(0.65f)), small, copySign(large, x));
}

// Inlined whatever the compiler thinks of its size: it is the loop of GELU, and a call would load its constants every time.
PLINTH_ALWAYS_INLINE F32 erf(F32 x) {
  constexpr float cSmall[] = {1.283791661e-01f,  -3.761263490e-01f, 1.128369421e-01f, -2.685927227e-02f,
                              5.200638436e-03f, -8.137475234e-04f, 8.345358947e-05f};
  // -log(1 - erf(t)) = t + t Q(t)
  constexpr float cLarge[] = {1.286484897e-01f,  6.351513267e-01f,  1.062368900e-01f, -2.376207523e-02f,
                              3.642464988e-03f, -3.228053974e-04f, 1.123146558e-05f};
  const F32 square = x * x;
  const F32 small = fma(polynomial(square, cSmall), x, x);
  const F32 t = min(splat(4.0f), abs(x));
  const F32 large = splat(1.0f) - exp(-fma(polynomial(t, cLarge), t, t));
  return select(less(abs(x), splat(0.93f)), small, copySign(large, x));
}

/** Sine and cosine of r (|r| <= pi/4 and a little) turned by `quadrant` quarter turns. */
inline void sinCosReduced(F32 r, I32 quadrant, F32& sine, F32& cosine) {
  constexpr float cSin[] = {-1.666666716e-01f, 8.333329111e-03f, -1.983925613e-04f, 2.717564712e-06f};
  constexpr float cCos[] = {4.166666791e-02f, -1.388888340e-03f, 2.479943578e-05f, -2.720330485e-07f};
  const F32 square = r * r;
  const F32 s = fma(square * r, polynomial(square, cSin), r);
  const F32 c = fma(square * square, polynomial(square, cCos), fnma(square, splat(0.5f), splat(1.0f)));
  const Mask odd = equal(quadrant & splatInt(1), splatInt(1));
  const I32 signSine = shiftLeft<30>(quadrant & splatInt(2));
  const I32 signCosine = shiftLeft<30>((quadrant + splatInt(1)) & splatInt(2));
  sine = floatOf(bitsOf(select(odd, c, s)) ^ signSine);
  cosine = floatOf(bitsOf(select(odd, s, c)) ^ signCosine);
}

/** Angles above this many radians are left to the C library. */
constexpr double kReductionLimit = 1e6;

/**
 * Splits kLanes angles into whole quarter turns and a rest of at most pi/4, in double: exact to float32 up to
 * kReductionLimit (pi/2 in two parts, the first of 32 bits so that its multiples are exact).
 */
inline void reduceAngles(const double* angle, float* rest, int32_t* quadrant) {
  for (int i = 0; i < kLanes; i++) {
    const double turns = (angle[i] * 0.63661977236758134 + 0x1.8p52) - 0x1.8p52;
    rest[i] = static_cast<float>((angle[i] - turns * 1.5707963267341256) - turns * 6.0771005065061922e-11);
    quadrant[i] = static_cast<int32_t>(turns);
  }
}

/** Sine and cosine of kLanes angles given in double. */
inline void sinCos(const double* angle, F32& sine, F32& cosine) {
  double largest = 0;
  for (int i = 0; i < kLanes; i++) largest = std::fabs(angle[i]) > largest ? std::fabs(angle[i]) : largest;
  bool finite = true;
  for (int i = 0; i < kLanes; i++) finite = finite && std::isfinite(angle[i]);
  if (largest <= kReductionLimit && finite) {
    alignas(64) float rest[kLanes];
    alignas(64) int32_t quadrant[kLanes];
    reduceAngles(angle, rest, quadrant);
    sinCosReduced(load(rest), loadInt(quadrant), sine, cosine);
  } else {
    float s[kLanes], c[kLanes];
    for (int i = 0; i < kLanes; i++) {
      s[i] = static_cast<float>(std::sin(angle[i]));
      c[i] = static_cast<float>(std::cos(angle[i]));
    }
    sine = load(s);
    cosine = load(c);
  }
}

inline void sinCos(F32 x, F32& sine, F32& cosine) {
  float lanes[kLanes];
  store(lanes, x);
  double angle[kLanes];
  for (int i = 0; i < kLanes; i++) angle[i] = lanes[i];
  sinCos(angle, sine, cosine);
}
inline F32 sin(F32 x) {
  F32 s, c;
  sinCos(x, s, c);
  return s;
}
inline F32 cos(F32 x) {
  F32 s, c;
  sinCos(x, s, c);
  return c;
}

/** Lane by lane through the C library: rarely used, and its corner cases are many. */
inline F32 pow(F32 a, F32 b) {
  float x[kLanes], y[kLanes];
  store(x, a);
  store(y, b);
  for (int i = 0; i < kLanes; i++) x[i] = std::pow(x[i], y[i]);
  return load(x);
}

/** Argument of the hyperbolic tangent in GELU's approximation, doubled: 2 sqrt(2/pi) (x + 0.044715 x^3). */
inline F32 geluInner(F32 x) { return x * fma(x * x, splat(0.0713548162f), splat(1.59576912f)); }

/**
 * GELU is x times a gate (Hendrycks & Gimpel 2016): 0.5 (1 + erf(x / sqrt(2))), or 0.5 (1 + tanh(u)) = sigmoid(2u). Its
 * gradient needs the same gate.
 */
inline F32 geluTanhGate(F32 x) { return sigmoid(geluInner(x)); }
inline F32 geluTanhSlope(F32 x, F32 gate) {
  const F32 slope = fma(x * x, splat(0.2140644488f), splat(1.59576912f));
  return fma(x * slope, gate * (splat(1.0f) - gate), gate);
}
inline F32 geluErfGate(F32 x) { return splat(0.5f) * (splat(1.0f) + erf(x * splat(0.707106781f))); }
inline F32 geluErfSlope(F32 x, F32 gate) { return fma(x, splat(0.398942280f) * exp(splat(-0.5f) * x * x), gate); }
inline F32 geluTanh(F32 x) { return x * geluTanhGate(x); }
inline F32 geluTanhGrad(F32 x) { return geluTanhSlope(x, geluTanhGate(x)); }
inline F32 geluErf(F32 x) { return x * geluErfGate(x); }
inline F32 geluErfGrad(F32 x) { return geluErfSlope(x, geluErfGate(x)); }
inline F32 siluSlope(F32 x, F32 gate) { return gate * fma(x, splat(1.0f) - gate, splat(1.0f)); }
inline F32 silu(F32 x) { return x * sigmoid(x); }
inline F32 siluGrad(F32 x) { return siluSlope(x, sigmoid(x)); }
inline F32 sign(F32 x) {
  const F32 s = oneWhere(less(zero(), x)) - oneWhere(less(x, zero()));
  return select(notEqual(x, x), x, s);
}

}  // namespace plinth::simd
