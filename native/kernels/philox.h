// Philox 4x32-10 (Salmon et al. 2011), one block of four words per lane.
#pragma once
#include <cstdint>

#include "../simd.h"

namespace plinth {

struct PhiloxBlocks {
  simd::I32 word[4];
};

inline PhiloxBlocks philox(const int32_t* key, simd::I32 c0, simd::I32 c1, simd::I32 c2, simd::I32 c3) {
  using namespace simd;
  const I32 m0 = splatInt(static_cast<int32_t>(0xD2511F53)), m1 = splatInt(static_cast<int32_t>(0xCD9E8D57));
  uint32_t key0 = static_cast<uint32_t>(key[0]), key1 = static_cast<uint32_t>(key[1]);
  for (int round = 0; round < 10; round++) {
    const I32 x0 = multiplyHigh(c2, m1) ^ c1 ^ splatInt(static_cast<int32_t>(key0));
    const I32 x2 = multiplyHigh(c0, m0) ^ c3 ^ splatInt(static_cast<int32_t>(key1));
    c1 = c2 * m1;
    c3 = c0 * m0;
    c0 = x0;
    c2 = x2;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

/** Words of blocks [block, block + count) of a stream, in order; writes whole vectors: up to 4 * (kLanes - 1) words more. */
inline void philoxWords(const int32_t* key, int64_t stream, int64_t block, int64_t count, int32_t* to) {
  using namespace simd;
  const I32 third = splatInt(static_cast<int32_t>(stream)), none = splatInt(0);
  for (int64_t i = 0; i < count; i += kLanes) {
    const PhiloxBlocks blocks = philox(key, splatInt(static_cast<int32_t>(block + i)) + iota(), none, third, none);
    int32_t words[4][kLanes];
    for (int w = 0; w < 4; w++) storeInt(words[w], blocks.word[w]);
    for (int j = 0; j < kLanes; j++) {
      for (int w = 0; w < 4; w++) to[4 * (i + j) + w] = words[w][j];
    }
  }
}

}  // namespace plinth
