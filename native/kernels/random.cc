// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011). Contracts: KERNELS.md ("random_bits",
// "random_uniform", "fold_key").
#include <algorithm>
#include <cstring>
#include <string>

#include "../kernel.h"
#include "../simd.h"
#include "philox.h"

namespace plinth {
namespace {

using namespace simd;

// Fills [begin, end) of the output, begin a multiple of 4, with convert(bits).
template <typename T, typename F>
void fillRandom(const int32_t* key, int64_t stream, int64_t begin, int64_t end, T* out, F&& convert) {
  const I32 third = splatInt(static_cast<int32_t>(stream)), none = splatInt(0);
  for (int64_t at = begin; at < end; at += 4 * kLanes) {
    const PhiloxBlocks blocks = philox(key, splatInt(static_cast<int32_t>(at / 4)) + iota(), none, third, none);
    int32_t words[4][kLanes];
    for (int w = 0; w < 4; w++) storeInt(words[w], blocks.word[w]);
    if (end - at >= 4 * kLanes) {
      for (int i = 0; i < kLanes; i++) {
        for (int w = 0; w < 4; w++) out[at + 4 * i + w] = convert(static_cast<uint32_t>(words[w][i]));
      }
    } else {
      for (int64_t i = 0; i < end - at; i++) out[at + i] = convert(static_cast<uint32_t>(words[i % 4][i / 4]));
    }
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
    fillRandom(key, args.ints[0], begin, end, out,
               [](uint32_t bits) { return static_cast<int32_t>(bits); });
  });
}

void randomUniform(const KernelArgs& args) {
  const int32_t* key = checkKey("random_uniform", args, DType::Float32);
  require(args.nInts == 1, "random_uniform: expected [stream]");
  float* out = args.out[0].as<float>();
  args.pool.parallelRange(args.out[0].size(), kGrain, [&](int64_t begin, int64_t end) {
    fillRandom(key, args.ints[0], begin, end, out,
               [](uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; });
  });
}

void foldKey(const KernelArgs& args) {
  const int32_t* key = checkKey("fold_key", args, DType::Int32);
  require(args.nIn == 2 && args.in[1].dtype == DType::Int32 && args.in[1].size() == 1, "fold_key: expected n int32[]");
  const PhiloxBlocks blocks = philox(key, splatInt(*args.in[1].as<int32_t>()), splatInt(0), splatInt(0), splatInt(1));
  int32_t words[2][kLanes];
  for (int w = 0; w < 2; w++) storeInt(words[w], blocks.word[w]);
  for (int w = 0; w < 2; w++) args.out[0].as<int32_t>()[w] = words[w][0];
}

PLINTH_KERNEL("random_bits", randomBits);
PLINTH_KERNEL("random_uniform", randomUniform);
PLINTH_KERNEL("fold_key", foldKey);

}  // namespace
}  // namespace plinth
