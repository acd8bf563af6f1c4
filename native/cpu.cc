#include "cpu.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#define PLINTH_X86 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace plinth {

#if defined(PLINTH_X86)
namespace {

struct Registers {
  uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r{};
#if defined(_MSC_VER)
  int values[4];
  __cpuidex(values, static_cast<int>(leaf), static_cast<int>(subleaf));
  std::memcpy(&r, values, sizeof r);
#else
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
#endif
  return r;
}

// Register files whose state the operating system saves (XCR0).
uint64_t enabledState() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
#endif
}

}  // namespace

std::vector<std::string> cpuFeatures() {
  std::vector<std::string> features;
  const auto bit = [](uint32_t value, int n) { return ((value >> n) & 1) != 0; };
  const uint32_t lastLeaf = cpuid(0, 0).a;
  const Registers one = cpuid(1, 0);
  if (!bit(one.c, 27) || lastLeaf < 7) return features;  // no XSAVE: nothing wider than SSE
  const uint64_t state = enabledState();
  const Registers seven = cpuid(7, 0);
  if ((state & 0x6) == 0x6) {
    if (bit(seven.b, 5)) features.push_back("avx2");
    if (bit(one.c, 12)) features.push_back("fma");
    if (bit(one.c, 29)) features.push_back("f16c");
  }
  if ((state & 0xe6) == 0xe6 && bit(seven.b, 16)) {
    features.push_back("avx512f");
    if (bit(seven.b, 30)) features.push_back("avx512bw");
    if (bit(seven.b, 31)) features.push_back("avx512vl");
    if (bit(seven.b, 17)) features.push_back("avx512dq");
    if (seven.a >= 1 && bit(cpuid(7, 1).a, 5)) features.push_back("avx512_bf16");
  }
  return features;
}
#elif defined(__aarch64__) || defined(_M_ARM64)
std::vector<std::string> cpuFeatures() { return {"neon"}; }
#else
std::vector<std::string> cpuFeatures() { return {}; }
#endif

int availableThreads() {
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#if defined(__linux__)
  // Containers limit time, not the number of processors one sees.
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    long long quota = 0, period = 0;
    if (std::fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
      threads = std::min(threads, std::max(1, static_cast<int>((quota + period - 1) / period)));
    }
    std::fclose(file);
  }
#endif
  return threads;
}

}  // namespace plinth
