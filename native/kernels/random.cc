// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011). Contracts: KERNELS.md ("random_bits",
// "random_uniform", "fold_key").
#include <algorithm>
#include <cstring>
#include <string>

#include "../kernel.h"

namespace plinth {
namespace {

// Counters computed side by side, so that the compiler can use vectors.
constexpr int kWide = 16;

struct Block {
  uint32_t word[4][kWide];
};

void philox(uint32_t key0, uint32_t key1, Block& b) {
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < kWide; i++) {
      const uint64_t p0 = uint64_t{0xD2511F53} * b.word[0][i];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * b.word[2][i];
      const uint32_t x0 = static_cast<uint32_t>(p1 >> 32) ^ b.word[1][i] ^ key0;
      const uint32_t x2 = static_cast<uint32_t>(p0 >> 32) ^ b.word[3][i] ^ key1;
      b.word[1][i] = static_cast<uint32_t>(p1);
      b.word[3][i] = static_cast<uint32_t>(p0);
      b.word[0][i] = x0;
      b.word[2][i] = x2;
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

// Fills [begin, end) of the output, begin a multiple of 4, with convert(bits).
template <typename T, typename F>
void fillRandom(const int32_t* key, uint32_t stream, int64_t begin, int64_t end, T* out, F&& convert) {
  for (int64_t at = begin; at < end; at += 4 * kWide) {
    Block b;
    for (int i = 0; i < kWide; i++) {
      b.word[0][i] = static_cast<uint32_t>(at / 4 + i);
      b.word[1][i] = 0;
      b.word[2][i] = stream;
      b.word[3][i] = 0;
    }
    philox(static_cast<uint32_t>(key[0]), static_cast<uint32_t>(key[1]), b);
    const int64_t n = std::min<int64_t>(4 * kWide, end - at);
    for (int64_t i = 0; i < n; i++) out[at + i] = convert(b.word[i % 4][i / 4]);
  }
}

constexpr int64_t kGrain = 16384;

const int32_t* checkKey(const char* kernel, const KernelArgs& args, DType out) {
  require(args.nIn >= 1 && args.nOut == 1 && args.in[0].dtype == DType::Int32 && args.in[0].size() == 2,
          std::string(kernel) + ": expected a key int32[2]");
  require(args.out[0].dtype == out, std::string(kernel) + ": expected an output of type " + nameOf(out));
  return args.in[0].as<int32_t>();
}

void randomBits(const KernelArgs& args) {
  const int32_t* key = checkKey("random_bits", args, DType::Int32);
  require(args.nInts == 1, "random_bits: expected [stream]");
  int32_t* out = args.out[0].as<int32_t>();
  args.pool.parallelRange(args.out[0].size(), kGrain, [&](int64_t begin, int64_t end) {
    fillRandom(key, static_cast<uint32_t>(args.ints[0]), begin, end, out,
               [](uint32_t bits) { return static_cast<int32_t>(bits); });
  });
}

void randomUniform(const KernelArgs& args) {
  const int32_t* key = checkKey("random_uniform", args, DType::Float32);
  require(args.nInts == 1, "random_uniform: expected [stream]");
  float* out = args.out[0].as<float>();
  args.pool.parallelRange(args.out[0].size(), kGrain, [&](int64_t begin, int64_t end) {
    fillRandom(key, static_cast<uint32_t>(args.ints[0]), begin, end, out,
               [](uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; });
  });
}

void foldKey(const KernelArgs& args) {
  const int32_t* key = checkKey("fold_key", args, DType::Int32);
  require(args.nIn == 2 && args.in[1].dtype == DType::Int32 && args.in[1].size() == 1, "fold_key: expected n int32[]");
  Block b{};
  b.word[0][0] = static_cast<uint32_t>(*args.in[1].as<int32_t>());
  b.word[3][0] = 1;
  philox(static_cast<uint32_t>(key[0]), static_cast<uint32_t>(key[1]), b);
  args.out[0].as<int32_t>()[0] = static_cast<int32_t>(b.word[0][0]);
  args.out[0].as<int32_t>()[1] = static_cast<int32_t>(b.word[1][0]);
}

PLINTH_KERNEL("random_bits", randomBits);
PLINTH_KERNEL("random_uniform", randomUniform);
PLINTH_KERNEL("fold_key", foldKey);

}  // namespace
}  // namespace plinth
