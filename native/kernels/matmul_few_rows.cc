// Products with few rows (decoding): limited by how fast b can be read, so b is neither packed nor read twice.
#include "kernels/matmul.h"

namespace plinth::matmul {
namespace {

// Where sums of columns from..from + columns of all rows go: c, or memory of the strip until the epilogue has run.
template <int M, int kWidth>
class Strip {
 public:
  Strip(const Product& p, int64_t from, int64_t columns) : p_(p), from_(from), columns_(columns) {}

  void add(int m, int j, F32 sum, bool isFirst) {
    const int n = static_cast<int>(std::min<int64_t>(kLanes, columns_ - j * kLanes));
    if (n <= 0) return;
    float* to = p_.epilogue == nullptr ? p_.c + m * p_.strideC + from_ + j * kLanes : sums_ + m * kWidth + j * kLanes;
    simd::storeUpTo(to, isFirst ? sum : simd::loadUpTo(to, n) + sum, n);
  }
  void finish() const {
    if (p_.epilogue != nullptr) p_.epilogue->apply(p_.first + from_, M, columns_, p_.strideC, sums_, kWidth);
  }

 private:
  const Product& p_;
  int64_t from_, columns_;
  alignas(64) float sums_[M * kWidth];
};

// b contiguous along N: sums of a strip of NV vectors of columns stay in registers. `a` holds items.
template <int M, int NV, typename Terms, typename T>
void stripOfColumns(const Product& p, const float* a, int64_t from, int64_t columns) {
  constexpr int kPer = Terms::kPerItem;
  const T* b = reinterpret_cast<const T*>(p.b.at(from, 0));
  const int64_t stride = p.b.kStride, items = ceilDiv(p.K, kPer);
  constexpr int64_t kAhead = 24 / kPer, kLine = 64 / sizeof(T);
  Strip<M, NV * kLanes> strip(p, from, columns);
  for (int64_t block = 0; block < items; block += kBlockK) {
    const int64_t end = std::min(items, block + kBlockK), whole = std::min(end, p.K / kPer);
    F32 sum[M][NV];
    for (int m = 0; m < M; m++) {
      for (int j = 0; j < NV; j++) sum[m][j] = simd::zero();
    }
    const auto add = [&](int64_t item, auto&& read) {
      const T* row = b + item * kPer * stride;
      PLINTH_UNROLL
      for (int j = 0; j < NV; j++) {
        const F32 column = read(row + j * kLanes, j);
        PLINTH_UNROLL
        for (int m = 0; m < M; m++) sum[m][j] = Terms::multiplyAdd(simd::splat(a[m * items + item]), column, sum[m][j]);
      }
    };
    int64_t item = block;
    if (columns == NV * kLanes) {
      for (; item < whole; item++) {
        // Successive lines of b are far apart, where no hardware prefetcher follows; and at a power of two apart they
        // share few places in the first-level cache, so aim at the second.
        for (int t = 0; t < kPer; t++) {
          for (int64_t j = 0; j < NV * kLanes; j += kLine) PLINTH_PREFETCH_L2(b + ((item + kAhead) * kPer + t) * stride + j);
        }
        add(item, [&](const T* at, int) { return Reader<Terms, T>::across(at, stride, kPer, kLanes); });
      }
    }
    for (; item < end; item++) {
      add(item, [&](const T* at, int j) { return Reader<Terms, T>::across(at, stride, p.K - item * kPer, columns - j * kLanes); });
    }
    for (int m = 0; m < M; m++) {
      for (int j = 0; j < NV; j++) strip.add(m, j, sum[m][j], block == 0);
    }
  }
  strip.finish();
}

// b contiguous along K: NV blocks of kLanes columns by kLanes items are transposed in registers.
template <int M, int NV, typename Terms, typename T>
void vectorsOfColumns(const Product& p, const float* a, int64_t from, int64_t columns) {
  constexpr int kPer = Terms::kPerItem;
  const int64_t stride = p.b.lineStride, items = ceilDiv(p.K, kPer);
  constexpr int64_t kStep = kLanes * kPer;
  Strip<M, NV * kLanes> strip(p, from, columns);
  for (int v = 0; v < NV && v * kLanes < columns; v++) {
    const T* b = reinterpret_cast<const T*>(p.b.at(from + v * kLanes, 0));
    const int64_t lines = columns - v * kLanes;
    for (int64_t block = 0; block < items; block += kBlockK) {
      const int64_t end = std::min(items, block + kBlockK);
      F32 sum[M];
      for (int m = 0; m < M; m++) sum[m] = simd::zero();
      for (int64_t item = block; item < end; item += kLanes) {
        const int64_t n = std::min<int64_t>(kLanes, end - item), left = p.K - item * kPer;
        // The lines of the next block in the order of memory, for where they follow each other: prefetching along each of
        // these lines ends beyond its end, and would find the next block's beginnings too late.
        const T* next = b + kLanes * stride + item * kStep;
        F32 block16[kLanes];
        if (lines >= kLanes && left >= kLanes * kPer) {
          PLINTH_UNROLL
          for (int i = 0; i < kLanes; i++) {
            const T* at = b + i * stride + item * kPer;
            block16[i] = Reader<Terms, T>::along(at, kLanes * kPer);
            PLINTH_PREFETCH_L2(next + i * kStep);
          }
        } else {
          for (int i = 0; i < kLanes; i++) {
            block16[i] = i < lines ? Reader<Terms, T>::along(b + i * stride + item * kPer, left) : simd::zero();
          }
        }
        simd::transposeBlock(block16);
        if (n == kLanes) {
          PLINTH_UNROLL
          for (int t = 0; t < kLanes; t++) {
            for (int m = 0; m < M; m++) sum[m] = Terms::multiplyAdd(simd::splat(a[m * items + item + t]), block16[t], sum[m]);
          }
        } else {
          for (int t = 0; t < n; t++) {
            for (int m = 0; m < M; m++) sum[m] = Terms::multiplyAdd(simd::splat(a[m * items + item + t]), block16[t], sum[m]);
          }
        }
      }
      for (int m = 0; m < M; m++) strip.add(m, v, sum[m], block == 0);
    }
  }
  strip.finish();
}

template <int M, typename Terms, typename T>
void multiplyTyped(const Product& p, const float* a, ThreadPool& pool) {
  const int64_t grain = int64_t{1} << 16;  // elements of b per task
  const bool isAlongN = p.b.lineStride == 1;
  constexpr int NV = kLanes == 16 ? (M <= 2 ? 8 : 4) : (M <= 2 ? 4 : 2);
  constexpr int64_t width = NV * kLanes;
  pool.parallelRange(ceilDiv(p.N, width), grain / (width * p.K), [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j++) {
      const int64_t from = j * width, columns = std::min(width, p.N - from);
      if (isAlongN) stripOfColumns<M, NV, Terms, T>(p, a, from, columns);
      else vectorsOfColumns<M, NV, Terms, T>(p, a, from, columns);
    }
  });
}

template <typename Terms>
void multiplyTerms(const Product& p, ThreadPool& pool) {
  const int64_t items = ceilDiv(p.K, Terms::kPerItem);
  float* a = static_cast<float*>(ThreadPool::scratch(p.M * items * 4, kRowsSlot));
  withOperandElement<Terms>(p.a, [&](auto element) {
    using T = decltype(element);
    for (int64_t m = 0; m < p.M; m++) {
      for (int64_t item = 0; item < items; item++) {
        const int64_t k = item * Terms::kPerItem;
        a[m * items + item] = Reader<Terms, T>::single(reinterpret_cast<const T*>(p.a.at(m, k)), p.a.kStride, p.K - k);
      }
    }
  });
  withOperandElement<Terms>(p.b, [&](auto element) {
    using T = decltype(element);
    switch (p.M) {
      case 1: return multiplyTyped<1, Terms, T>(p, a, pool);
      case 2: return multiplyTyped<2, Terms, T>(p, a, pool);
      case 3: return multiplyTyped<3, Terms, T>(p, a, pool);
      default: return multiplyTyped<4, Terms, T>(p, a, pool);
    }
  });
}

}  // namespace

void multiplyFewRows(const Product& p, ThreadPool& pool) {
  if (p.isBf16()) multiplyTerms<Bf16Terms>(p, pool);
  else multiplyTerms<FloatTerms>(p, pool);
}

}  // namespace plinth::matmul
