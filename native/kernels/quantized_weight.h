// A quantised weight W[N, K] as src/engine/quantize/layout.ts packs it, and the values of its codes as vectors.
//
// Columns of the product (rows of W) lie in panels of 64. A panel is the scales of its groups, [groups][64], then the
// codes, [K / perWord][64] words of 32 bits: lane n of a word holds perWord successive k of column n. Of these the even
// ones sit in the low half of the word from the lowest bits up, the odd ones in the high half, so that one shift by a
// code's width brings the next pair (k, k + 1) to the same place of both halves. After the panels: for nf4 the offset of
// the scales, the 256 values a scale's code stands for, and the absolute maximum of each block of 256 scales.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernel.h"
#include "kernels/element.h"
#include "kernels/transpose.h"
#include "simd.h"

namespace plinth::quantized {

using simd::F32;
using simd::I32;
using simd::kLanes;

enum class Format : int64_t { Nf4 = 0, Int4 = 1, Int8 = 2 };

constexpr int kPanel = 64;
constexpr int kVectors = kPanel / kLanes;

// The NF4 values (Dettmers et al. 2023, appendix E), rounded to bfloat16, twice: an index may carry a bit of the next code.
alignas(64) inline constexpr uint16_t kNf4Bits[32] = {
    0xbf80, 0xbf32, 0xbf06, 0xbeca, 0xbe92, 0xbe3d, 0xbdba, 0x0000, 0x3da3, 0x3e25, 0x3e7c, 0x3ead, 0x3ee2, 0x3f10, 0x3f39, 0x3f80,
    0xbf80, 0xbf32, 0xbf06, 0xbeca, 0xbe92, 0xbe3d, 0xbdba, 0x0000, 0x3da3, 0x3e25, 0x3e7c, 0x3ead, 0x3ee2, 0x3f10, 0x3f39, 0x3f80};
// The same for int4: -8 ... 7.
alignas(64) inline constexpr uint16_t kInt4Bits[32] = {
    0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
    0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};

struct Weight {
  const uint32_t* words;
  Format format;
  int64_t N, K, groupSize, groups, perWord, scaleWords, panelWords;

  int64_t panels() const { return (N + kPanel - 1) / kPanel; }
  // K with the padding of the last group.
  int64_t paddedK() const { return groups * groupSize; }
  const uint32_t* codes(int64_t panel) const { return words + panel * panelWords + scaleWords; }
  int64_t groupWords() const { return groupSize / perWord * kPanel; }

  // The panel's scales as float32 [groups][64].
  void scales(int64_t panel, float* to) const {
    const uint32_t* from = words + panel * panelWords;
    if (format != Format::Nf4) {
      const uint16_t* bits = reinterpret_cast<const uint16_t*>(from);
      for (int64_t i = 0; i < groups * kPanel; i += kLanes) simd::store(to + i, simd::loadBf16(bits + i));
      return;
    }
    const float* tail = reinterpret_cast<const float*>(words + panels() * panelWords);
    const float offset = tail[0];
    const float* values = tail + 1;
    const float* maxima = tail + 257;
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(from);
    const int64_t columns = std::min<int64_t>(kPanel, N - panel * kPanel);
    for (int64_t n = 0; n < kPanel; n++) {
      if (n >= columns) {
        for (int64_t g = 0; g < groups; g++) to[g * kPanel + n] = 0;
        continue;
      }
      // Scales are counted along the rows of W, so a column crosses few blocks.
      int64_t index = (panel * kPanel + n) * groups;
      for (int64_t g = 0; g < groups;) {
        const float maximum = maxima[index / 256];
        const int64_t end = std::min(groups, g + 256 - index % 256);
        index += end - g;
        for (; g < end; g++) to[g * kPanel + n] = values[bytes[g * kPanel + n]] * maximum + offset;
      }
    }
  }
};

// Weight number `index` of a call; ints are [format, groupSize, N, K] of each of its `count` weights.
inline Weight weightOf(const KernelArgs& args, const Tensor& packed, int index, int count, const char* kernel) {
  require(args.nInts == 4 * count && packed.dtype == DType::Int32 && packed.rank == 1,
          std::string(kernel) + ": expected packed int32 words and ints [format, groupSize, N, K] of each");
  const int64_t *v = args.ints + 4 * index, size = packed.shape[0];
  constexpr int64_t kMost = int64_t{1} << 28;  // so that their product is a number
  require(v[0] >= 0 && v[0] <= 2 && v[1] > 0 && v[1] % 32 == 0 && v[2] >= 0 && v[3] >= 0 && v[1] <= kMost &&
              v[2] <= kMost && v[3] <= kMost,
          std::string(kernel) + ": expected a format from 0 to 2 and groups of a multiple of 32");
  Weight w{packed.as<uint32_t>(), static_cast<Format>(v[0]), v[2], v[3], v[1], (v[3] + v[1] - 1) / v[1], 0, 0, 0};
  w.perWord = w.format == Format::Int8 ? 4 : 8;
  w.scaleWords = w.groups * kPanel / (w.format == Format::Nf4 ? 4 : 2);
  w.panelWords = w.scaleWords + w.paddedK() / w.perWord * kPanel;
  const int64_t tail = w.format == Format::Nf4 ? 257 + (w.N * w.groups + 255) / 256 : 0;
  require(size == w.panels() * w.panelWords + tail,
          std::string(kernel) + ": the packed words do not fit format, groups and shape");
  return w;
}

// table[index & 15] per lane.
inline F32 lookUp16(const float* table, I32 index) {
#if defined(__AVX512F__)
  return {_mm512_permutexvar_ps(index.v, _mm512_loadu_ps(table))};
#elif defined(__AVX2__)
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index.v);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index.v);
  return {_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index.v, 28)))};
#else
  int32_t at[kLanes];
  float values[kLanes];
  simd::storeInt(at, index);
  for (int i = 0; i < kLanes; i++) values[i] = table[at[i] & 15];
  return simd::load(values);
#endif
}

inline const float* nf4Table() {
  static const struct Table {
    float values[16];
    Table() {
      for (int i = 0; i < 16; i++) values[i] = bfloat16ToFloat(kNf4Bits[i]);
    }
  } table;
  return table.values;
}

// Values of code R (0 .. perWord - 1) of each lane's word.
template <Format F, int R>
F32 codeValues(I32 word, const float* table) {
  if constexpr (F == Format::Int8) {
    constexpr int kShift = (R & 1) * 16 + (R >> 1) * 8;
    return simd::toFloat(simd::shiftRight<24>(simd::shiftLeft<24 - kShift>(word)));
  } else {
    constexpr int kShift = (R & 1) * 16 + (R >> 1) * 4;
    I32 index = word;
    if constexpr (kShift > 0) index = simd::shiftRightLogical<kShift>(word);
    if constexpr (F == Format::Nf4) return lookUp16(table, index & simd::splatInt(15));
    return simd::toFloat((index & simd::splatInt(15)) - simd::splatInt(8));
  }
}

// Codes of one group of a panel as float32: to[groupSize][64].
template <Format F>
void unpackGroup(const uint32_t* codes, int64_t groupSize, float* to) {
  constexpr int kPerWord = F == Format::Int8 ? 4 : 8;
  const float* table = nf4Table();
  for (int64_t k = 0; k < groupSize; k += kPerWord) {
    for (int j = 0; j < kVectors; j++) {
      const I32 word = simd::loadInt(reinterpret_cast<const int32_t*>(codes) + k / kPerWord * kPanel + j * kLanes);
      float* line = to + k * kPanel + j * kLanes;
      const auto put = [&]<int R>() { simd::store(line + R * kPanel, codeValues<F, R>(word, table)); };
      put.template operator()<0>();
      put.template operator()<1>();
      put.template operator()<2>();
      put.template operator()<3>();
      if constexpr (kPerWord == 8) {
        put.template operator()<4>();
        put.template operator()<5>();
        put.template operator()<6>();
        put.template operator()<7>();
      }
    }
  }
}

// Calls fn<Format>().
template <typename Fn>
void withFormat(Format format, Fn&& fn) {
  switch (format) {
    case Format::Nf4: return fn.template operator()<Format::Nf4>();
    case Format::Int4: return fn.template operator()<Format::Int4>();
    case Format::Int8: return fn.template operator()<Format::Int8>();
  }
}

}  // namespace plinth::quantized
