// What differs between variants outside the kernels: the variant's name, and its measured limits.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu.h"
#include "memory.h"
#include "thread_pool.h"

#if defined(__x86_64__) || defined(_M_X64)
#define PLINTH_X86 1
#include <immintrin.h>
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
#endif

namespace plinth {

const char* compiledIsa() {
#if defined(PLINTH_AVX512_BF16)
  return "avx512bf16";
#elif defined(__AVX512F__)
  return "avx512";
#elif defined(__AVX2__)
  return "avx2";
#elif defined(PLINTH_X86)
  return "baseline";
#elif defined(__aarch64__) || defined(_M_ARM64)
  return "neon";
#else
  return "baseline";
#endif
}

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Independent chains: enough to cover the latency of two units, few enough to stay in registers.
#if defined(__AVX512F__)
using Lanes = __m512;
constexpr int kLanes = 16, kChains = 20;
inline Lanes fill(float x) { return _mm512_set1_ps(x); }
inline Lanes multiplyAdd(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
inline float first(Lanes a) { return _mm512_cvtss_f32(a); }
#elif defined(__AVX2__)
using Lanes = __m256;
constexpr int kLanes = 8, kChains = 12;
inline Lanes fill(float x) { return _mm256_set1_ps(x); }
inline Lanes multiplyAdd(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
inline float first(Lanes a) { return _mm256_cvtss_f32(a); }
#elif defined(PLINTH_X86)
using Lanes = __m128;
constexpr int kLanes = 4, kChains = 12;
inline Lanes fill(float x) { return _mm_set1_ps(x); }
inline Lanes multiplyAdd(Lanes a, Lanes b, Lanes c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
inline float first(Lanes a) { return _mm_cvtss_f32(a); }
#elif defined(__aarch64__) || defined(_M_ARM64)
using Lanes = float32x4_t;
constexpr int kLanes = 4, kChains = 20;
inline Lanes fill(float x) { return vdupq_n_f32(x); }
inline Lanes multiplyAdd(Lanes a, Lanes b, Lanes c) { return vfmaq_f32(c, a, b); }
inline float first(Lanes a) { return vgetq_lane_f32(a, 0); }
#else
using Lanes = float;
constexpr int kLanes = 1, kChains = 8;
inline Lanes fill(float x) { return x; }
inline Lanes multiplyAdd(Lanes a, Lanes b, Lanes c) { return a * b + c; }
inline float first(Lanes a) { return a; }
#endif

// `rounds` times one `step` on every chain; gives something of the sums, so that they are computed.
template <typename Step>
float chainLoop(int64_t rounds, Step step) {
  Lanes sums[kChains];
  for (int i = 0; i < kChains; i++) sums[i] = fill(1.0f + 0.001f * static_cast<float>(i));
  for (int64_t r = 0; r < rounds; r++) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 32
#endif
    for (int i = 0; i < kChains; i++) sums[i] = step(sums[i]);
  }
  float total = 0;
  for (int i = 0; i < kChains; i++) total += first(sums[i]);
  return total;
}

// GFLOP/s of loop(rounds) on every thread, each round doing `operations`: the best of many windows of some milliseconds.
template <typename Loop>
double peakOf(double seconds, int threads, int operations, Loop loop) {
  ThreadPool pool(threads);
  std::vector<float> sink(static_cast<size_t>(std::max(threads, 1)) * 16);
  const auto window = [&](int64_t rounds) {
    const auto start = Clock::now();
    pool.parallelFor(threads, [&](int64_t task) { sink[static_cast<size_t>(task) * 16] = loop(rounds); });
    return secondsSince(start);
  };
  int64_t rounds = 20000;
  while (window(rounds) < 0.005 && rounds < (int64_t{1} << 32)) rounds *= 2;
  double best = 0;
  const auto start = Clock::now();
  do {
    const double total = static_cast<double>(operations) * static_cast<double>(rounds) * threads;
    best = std::max(best, total / window(rounds) * 1e-9);
  } while (secondsSince(start) < seconds);
  volatile float keep = sink[0];
  (void)keep;
  return best;
}

}  // namespace

double fmaPeak(double seconds, int threads) {
  return peakOf(seconds, threads, 2 * kLanes * kChains, [](int64_t rounds) {
    const Lanes factor = fill(0.999f), term = fill(0.001f);
    return chainLoop(rounds, [=](Lanes sum) { return multiplyAdd(sum, factor, term); });
  });
}

double bfloat16Peak(double seconds, int threads) {
#if defined(PLINTH_AVX512_BF16)
  return peakOf(seconds, threads, 4 * kLanes * kChains, [](int64_t rounds) {
    const __m512bh ones = _mm512_cvtne2ps_pbh(fill(1.0f), fill(1.0f));
    return chainLoop(rounds, [=](Lanes sum) { return _mm512_dpbf16_ps(sum, ones, ones); });
  });
#else
  return fmaPeak(seconds, threads);
#endif
}

double bandwidth(double seconds, int threads) {
  constexpr int64_t kBytes = int64_t{256} << 20, kPiece = int64_t{1} << 20;
  AlignedBuffer buffer(kBytes);
  std::memset(buffer.data(), 1, static_cast<size_t>(kBytes));
  ThreadPool pool(threads);
  std::vector<uint64_t> sink(static_cast<size_t>(kBytes / kPiece));
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto passStart = Clock::now();
    pool.parallelRange(kBytes, kPiece, [&](int64_t begin, int64_t end) {
      const uint64_t* words = reinterpret_cast<const uint64_t*>(static_cast<const char*>(buffer.data()) + begin);
      const int64_t n = (end - begin) / 8;
      uint64_t sums[32] = {};
      for (int64_t i = 0; i < n; i += 32) {
        for (int j = 0; j < 32; j++) sums[j] += words[i + j];
      }
      uint64_t total = 0;
      for (const uint64_t sum : sums) total += sum;
      sink[static_cast<size_t>(begin / kPiece)] = total;
    });
    best = std::max(best, static_cast<double>(kBytes) / secondsSince(passStart) * 1e-9);
  } while (secondsSince(start) < seconds);
  volatile uint64_t keep = sink[0];
  (void)keep;
  return best;
}

}  // namespace plinth
