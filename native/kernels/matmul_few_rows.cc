// Products with few rows (decoding): limited by how fast b can be read, so b is neither packed nor read twice.
#include "kernels/matmul.h"

namespace plinth::matmul {
namespace {

// b contiguous along N: sums of a strip of NV vectors of columns stay in registers.
template <int M, int NV, typename T>
void stripOfColumns(const Product& p, const float* a, int64_t from, int64_t columns) {
  const T* b = reinterpret_cast<const T*>(p.b.at(from, 0));
  const int64_t stride = p.b.kStride;
  constexpr int64_t kAhead = 24, kLine = 64 / sizeof(T);
  for (int64_t block = 0; block < p.K; block += kBlockK) {
    const int64_t end = std::min(p.K, block + kBlockK);
    F32 sum[M][NV];
    for (int m = 0; m < M; m++) {
      for (int j = 0; j < NV; j++) sum[m][j] = simd::zero();
    }
    const auto add = [&](int64_t k, auto loadColumn) {
      PLINTH_UNROLL
      for (int j = 0; j < NV; j++) {
        const F32 column = loadColumn(b + k * stride + j * kLanes, j);
        PLINTH_UNROLL
        for (int m = 0; m < M; m++) sum[m][j] = simd::fma(simd::splat(a[m * p.K + k]), column, sum[m][j]);
      }
    };
    if (columns == NV * kLanes) {
      for (int64_t k = block; k < end; k++) {
        // Successive lines of b are far apart, where no hardware prefetcher follows; and at a power of two apart they
        // share few places in the first-level cache, so aim at the second.
        for (int64_t j = 0; j < NV * kLanes; j += kLine) PLINTH_PREFETCH_L2(b + (k + kAhead) * stride + j);
        add(k, [](const T* line, int) { return loadVector(line); });
      }
    } else {
      for (int64_t k = block; k < end; k++) {
        add(k, [&](const T* line, int j) { return loadVectorUpTo(line, columns - j * kLanes); });
      }
    }
    for (int m = 0; m < M; m++) {
      for (int j = 0; j < NV && j * kLanes < columns; j++) {
        float* to = p.c + m * p.strideC + from + j * kLanes;
        const int n = static_cast<int>(std::min<int64_t>(kLanes, columns - j * kLanes));
        simd::storeUpTo(to, block == 0 ? sum[m][j] : simd::loadUpTo(to, n) + sum[m][j], n);
      }
    }
  }
}

// b contiguous along K: blocks of kLanes columns by kLanes terms are transposed in registers.
template <int M, typename T>
void vectorOfColumns(const Product& p, const float* a, int64_t from) {
  const int64_t columns = std::min<int64_t>(kLanes, p.N - from);
  const T* b = reinterpret_cast<const T*>(p.b.at(from, 0));
  const int64_t stride = p.b.lineStride;
  constexpr int64_t kAhead = 512 / sizeof(T);
  for (int64_t block = 0; block < p.K; block += kBlockK) {
    const int64_t end = std::min(p.K, block + kBlockK);
    F32 sum[M];
    for (int m = 0; m < M; m++) sum[m] = simd::zero();
    for (int64_t k = block; k < end; k += kLanes) {
      const int64_t terms = std::min<int64_t>(kLanes, end - k);
      F32 lines[kLanes];
      if (columns == kLanes && terms == kLanes) {
        PLINTH_UNROLL
        for (int i = 0; i < kLanes; i++) {
          lines[i] = loadVector(b + i * stride + k);
          PLINTH_PREFETCH(b + i * stride + k + kAhead);
        }
        simd::transposeBlock(lines);
        PLINTH_UNROLL
        for (int t = 0; t < kLanes; t++) {
          for (int m = 0; m < M; m++) sum[m] = simd::fma(simd::splat(a[m * p.K + k + t]), lines[t], sum[m]);
        }
      } else {
        for (int i = 0; i < kLanes; i++) lines[i] = loadVectorUpTo(b + i * stride + k, i < columns ? terms : 0);
        simd::transposeBlock(lines);
        for (int t = 0; t < terms; t++) {
          for (int m = 0; m < M; m++) sum[m] = simd::fma(simd::splat(a[m * p.K + k + t]), lines[t], sum[m]);
        }
      }
    }
    for (int m = 0; m < M; m++) {
      float* to = p.c + m * p.strideC + from;
      const int n = static_cast<int>(columns);
      simd::storeUpTo(to, block == 0 ? sum[m] : simd::loadUpTo(to, n) + sum[m], n);
    }
  }
}

template <int M, typename T>
void multiplyTyped(const Product& p, const float* a, ThreadPool& pool) {
  const int64_t grain = int64_t{1} << 16;  // elements of b per task
  if (p.b.lineStride == 1) {
    constexpr int NV = kLanes == 16 ? (M <= 2 ? 8 : 4) : (M <= 2 ? 4 : 2);
    constexpr int64_t width = NV * kLanes;
    pool.parallelRange(ceilDiv(p.N, width), grain / (width * p.K), [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; j++) stripOfColumns<M, NV, T>(p, a, j * width, std::min(width, p.N - j * width));
    });
  } else {
    pool.parallelRange(ceilDiv(p.N, kLanes), grain / (kLanes * p.K), [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; j++) vectorOfColumns<M, T>(p, a, j * kLanes);
    });
  }
}

template <typename T>
void multiplyRows(const Product& p, const float* a, ThreadPool& pool) {
  switch (p.M) {
    case 1: return multiplyTyped<1, T>(p, a, pool);
    case 2: return multiplyTyped<2, T>(p, a, pool);
    case 3: return multiplyTyped<3, T>(p, a, pool);
    default: return multiplyTyped<4, T>(p, a, pool);
  }
}

}  // namespace

void multiplyFewRows(const Product& p, ThreadPool& pool) {
  float* a = static_cast<float*>(ThreadPool::scratch(p.M * p.K * 4, 1));
  withOperandElement(p.a, [&](auto element) {
    for (int64_t m = 0; m < p.M; m++) {
      const auto* from = reinterpret_cast<const decltype(element)*>(p.a.at(m, 0));
      for (int64_t k = 0; k < p.K; k++) a[m * p.K + k] = toFloat(from[k * p.a.kStride]);
    }
  });
  withOperandElement(p.b, [&](auto element) { multiplyRows<decltype(element)>(p, a, pool); });
}

}  // namespace plinth::matmul
