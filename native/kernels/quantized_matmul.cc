// Products with a quantised weight: x[..., K] times W[N, K] transposed -> float32[..., N] (quantized_tile.h says how it is
// summed), and the weight itself as floats.
#include <vector>

#include "kernels/quantized_tile.h"

namespace plinth {
namespace quantized {
namespace {

constexpr int64_t kRowsFromCodes = 4;
constexpr int kCallerSlot = 0, kTaskSlot = 1;

// x rounded to bfloat16, K padded with zeros: row by row, or in tiles [rows / MR][K terms][MR].
struct Rows {
  Term* data;
  int64_t count, terms;  // terms of a row

  template <typename T>
  void packRow(const T* from, int64_t K, int64_t to, int64_t step) const {
    for (int64_t k = 0; k < terms; k++) {
      Term* at = data + to + k * step;
#if defined(__AVX512BF16__)
      const auto bits = [&](int64_t i) -> uint32_t { return i < K ? floatToBfloat16(toFloat(from[i])) : 0; };
      *at = bits(2 * k) | bits(2 * k + 1) << 16;
#else
      *at = k < K ? bfloat16ToFloat(floatToBfloat16(toFloat(from[k]))) : 0.0f;
#endif
    }
  }
};

constexpr int heightFor(int64_t rows) {
  for (const int height : {1, 2, 4, 6, 8, 10, 12}) {
    if (height >= rows && height < kTileRows) return height;
  }
  return kTileRows;
}

using GroupTile = void (*)(int64_t, const Term*, const Term*, const float*, float*);

template <int Height>
GroupTile tileOf(int height) {
  if constexpr (Height > kTileRows) {
    return nullptr;
  } else {
    return height == Height ? groupTile<Height> : tileOf<Height == 1 ? 2 : Height + 2>(height);
  }
}

void copyOut(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to, int64_t N) {
  for (int64_t m = 0; m < rows; m++) std::memcpy(to + m * N, from + m * stride, static_cast<size_t>(columns) * 4);
}

// Products of one x with several weights share their loop, so that threads meet once.
struct Product {
  Weight w;
  float* out;
  int64_t firstPanel;  // among the panels of all
};
using Products = std::vector<Product>;

// Calls fn(product, panel) for panels begin ... end of all products.
template <typename Fn>
void forPanels(const Products& products, int64_t begin, int64_t end, Fn&& fn) {
  for (const Product& product : products) {
    const int64_t last = std::min(end, product.firstPanel + product.w.panels());
    for (; begin < last; begin++) fn(product, begin - product.firstPanel);
  }
}

int64_t panelsOf(const Products& products) { return products.back().firstPanel + products.back().w.panels(); }

#if defined(__AVX512BF16__)
template <int M>
void multiplyFew(const Products& products, const Rows& x, ThreadPool& pool) {
  // Stretches of some 200 KB, and a few per thread at least.
  const int64_t panels = panelsOf(products);
  const int64_t most = std::max<int64_t>(1, (int64_t{1} << 16) / products.front().w.panelWords);
  const int64_t group = std::clamp<int64_t>(panels / (int64_t{8} * pool.threads()), 1, most);
  pool.parallelRange(panels, group, [&](int64_t begin, int64_t end) {
    forPanels(products, begin, end, [&](const Product& product, int64_t panel) {
      const Weight& w = product.w;
      float* sums = static_cast<float*>(ThreadPool::scratch((M + w.groups) * kPanel * 4, kTaskSlot));
      float* scales = sums + M * kPanel;
      withFormat(w.format, [&]<Format F>() {
        if constexpr (F == Format::Nf4) w.scales(panel, scales);
        fewRows<F, M>(w, panel, x.data, scales, sums);
      });
      const int64_t n = panel * kPanel;
      copyOut(sums, kPanel, M, std::min<int64_t>(w.N - n, kPanel), product.out + n, w.N);
    });
  });
}
#endif

// The columns of one panel, for all rows.
template <Format F>
void multiplyPanel(const Product& product, int64_t panel, const Rows& x) {
  const Weight& w = product.w;
  const int64_t tiles = (x.count + kTileRows - 1) / kTileRows, termsPerGroup = w.groupSize / kTermsPerWord;
  const int64_t scaleCount = w.groups * kPanel, codeCount = termsPerGroup * kPanel, sumCount = tiles * kTileRows * kPanel;
  float* scales = static_cast<float*>(ThreadPool::scratch((scaleCount + codeCount + sumCount) * 4, kTaskSlot));
  Term* codes = reinterpret_cast<Term*>(scales + scaleCount);
  float* sums = scales + scaleCount + codeCount;
  w.scales(panel, scales);
  std::memset(sums, 0, static_cast<size_t>(sumCount) * 4);
  for (int64_t g = 0; g < w.groups; g++) {
    unpackTerms<F>(w.codes(panel) + g * w.groupWords(), w.groupSize, codes);
    for (int64_t tile = 0; tile < tiles; tile++) {
      const int height = heightFor(std::min<int64_t>(kTileRows, x.count - tile * kTileRows));
      for (int64_t n = 0; n < kPanel; n += kTileColumns) {
        tileOf<1>(height)(w.groupSize, x.data + tile * kTileRows * x.terms + g * termsPerGroup * height,
                          codes + n * termsPerGroup, scales + g * kPanel + n, sums + tile * kTileRows * kPanel + n);
      }
    }
  }
  const int64_t n = panel * kPanel;
  copyOut(sums, kPanel, x.count, std::min<int64_t>(kPanel, w.N - n), product.out + n, w.N);
}

void packRows(const Tensor& x, const Rows& rows, bool inTiles, ThreadPool& pool) {
  const int64_t K = x.last(0);
  pool.parallelRange(rows.count, std::max<int64_t>(1, (int64_t{1} << 14) / std::max<int64_t>(K, 1)),
                     [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; m++) {
      const int64_t tile = m / kTileRows * kTileRows, height = heightFor(std::min<int64_t>(kTileRows, rows.count - tile));
      const int64_t to = inTiles ? tile * rows.terms + (m - tile) : m * rows.terms;
      const int64_t step = inTiles ? height : 1;
      withElement(x.dtype, [&](auto element) {
        using T = decltype(element);
        if constexpr (kIsFloat<T>) rows.packRow(x.as<T>() + m * K, K, to, step);
      });
    }
  });
}

}  // namespace
}  // namespace quantized

static void quantizedMatmul(const KernelArgs& args) {
  using namespace quantized;
  require(args.nIn >= 2 && args.nOut == args.nIn - 1, "quantized_matmul: expected x, and as many weights as outputs");
  const Tensor& x = args.in[0];
  require(x.dtype == DType::Float32 || x.dtype == DType::BFloat16 || x.dtype == DType::Float16,
          "quantized_matmul: expected x of floats");
  require(x.rank > 0, "quantized_matmul: expected x[..., K]");
  const int64_t K = x.last(0), count = x.size() / std::max<int64_t>(K, 1);
  int64_t paddedK = 0;
  Products products;
  for (int i = 0; i < args.nOut; i++) {
    const Tensor& out = args.out[i];
    const Weight w = weightOf(args, args.in[i + 1], i, args.nOut, "quantized_matmul");
    require(out.dtype == DType::Float32, "quantized_matmul: expected outputs of float32");
    require(out.rank == x.rank && K == w.K && out.last(0) == w.N, "quantized_matmul: expected x[..., K] and out[..., N]");
    require(count == out.size() / std::max<int64_t>(w.N, 1) || w.K == 0 || w.N == 0,
            "quantized_matmul: expected as many rows in x as in out");
    require(products.empty() || w.groupSize == products.front().w.groupSize,
            "quantized_matmul: expected weights of groups of one size");
    if (out.size() == 0) continue;
    if (w.K == 0) {
      std::memset(out.data, 0, static_cast<size_t>(out.size()) * 4);
      continue;
    }
    products.push_back({w, out.as<float>(), products.empty() ? 0 : panelsOf(products)});
    paddedK = w.paddedK();
  }
  if (products.empty()) return;
  const int64_t terms = paddedK / kTermsPerWord;
  // Room for the last tile's unused rows.
  const int64_t padded = (count + kTileRows - 1) / kTileRows * kTileRows;
  const Rows rows{static_cast<Term*>(ThreadPool::scratch(padded * terms * 4, kCallerSlot)), count, terms};
#if defined(__AVX512BF16__)
  if (count <= kRowsFromCodes) {
    packRows(x, rows, false, args.pool);
    switch (count) {
      case 1: return multiplyFew<1>(products, rows, args.pool);
      case 2: return multiplyFew<2>(products, rows, args.pool);
      case 3: return multiplyFew<3>(products, rows, args.pool);
      default: return multiplyFew<4>(products, rows, args.pool);
    }
  }
#endif
  packRows(x, rows, true, args.pool);
  args.pool.parallelFor(panelsOf(products), [&](int64_t task) {
    forPanels(products, task, task + 1, [&](const Product& product, int64_t panel) {
      withFormat(product.w.format, [&]<Format F>() { multiplyPanel<F>(product, panel, rows); });
    });
  });
}

// out[N, K] = code * scale, rounded to the output's element type.
static void dequantize(const KernelArgs& args) {
  using namespace quantized;
  require(args.nIn == 1 && args.nOut == 1, "dequantize: expected one input and one output");
  const Tensor& out = args.out[0];
  const Weight w = weightOf(args, args.in[0], 0, 1, "dequantize");
  require(out.rank == 2 && out.shape[0] == w.N && out.shape[1] == w.K, "dequantize: expected an output [N, K]");
  require(out.dtype == DType::Float32 || out.dtype == DType::BFloat16, "dequantize: expected float32 or bfloat16");
  args.pool.parallelFor(w.panels(), [&](int64_t panel) {
    float* scales = static_cast<float*>(ThreadPool::scratch((w.groups + w.groupSize) * kPanel * 4, kTaskSlot));
    float* values = scales + w.groups * kPanel;
    w.scales(panel, scales);
    const int64_t columns = std::min<int64_t>(kPanel, w.N - panel * kPanel);
    for (int64_t g = 0; g < w.groups; g++) {
      withFormat(w.format, [&]<Format F>() { unpackGroup<F>(w.codes(panel) + g * w.groupWords(), w.groupSize, values); });
      const int64_t from = g * w.groupSize, terms = std::min(w.groupSize, w.K - from);
      // Squares of kLanes terms and columns turn in registers from lanes of columns to lanes of terms.
      for (int64_t n = 0; n < columns; n += kLanes) {
        const F32 scale = simd::load(scales + g * kPanel + n);
        for (int64_t k = 0; k < terms; k += kLanes) {
          F32 block[kLanes];
          PLINTH_UNROLL
          for (int i = 0; i < kLanes; i++) block[i] = simd::load(values + (k + i) * kPanel + n) * scale;
          simd::transposeBlock(block);
          for (int i = 0; i < kLanes && n + i < columns; i++) {
            const int64_t at = (panel * kPanel + n + i) * w.K + from + k;
            const int64_t width = std::min<int64_t>(kLanes, terms - k);
            if (out.dtype == DType::Float32) {
              simd::storeUpTo(out.as<float>() + at, block[i], static_cast<int>(width));
            } else if (width == kLanes) {
              simd::storeBf16(out.as<uint16_t>() + at, block[i]);
            } else {
              uint16_t bits[kLanes];
              simd::storeBf16(bits, block[i]);
              std::memcpy(out.as<uint16_t>() + at, bits, static_cast<size_t>(width) * 2);
            }
          }
        }
      }
    }
  });
}

PLINTH_KERNEL("quantized_matmul", quantizedMatmul);
PLINTH_KERNEL("dequantize", dequantize);

}  // namespace plinth
