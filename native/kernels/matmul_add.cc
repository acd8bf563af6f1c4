// c + a[M,K] x b[K,N], for sums of products that add up in place (gradients of shared weights, micro-batches). Contract:
// KERNELS.md ("matmul_add").
#include <algorithm>

#include "kernel.h"
#include "kernels/matmul.h"

namespace plinth {
namespace {

// Elements of the result whose product is made before it is added: 4 MB, which the caches hold.
constexpr int64_t kBlock = 1 << 20;

void matmulAdd(const KernelArgs& args) {
  using namespace matmul;
  require(args.nIn == 3 && args.nOut == 1 && args.nInts == 1, "matmul_add: expected a, b, c, one output and [operands]");
  const Tensor &a = args.in[0], &b = args.in[1], &c = args.in[2], &out = args.out[0];
  const auto isFloat = [](DType t) { return t == DType::Float32 || t == DType::BFloat16 || t == DType::Float16; };
  require(a.rank == 2 && b.rank == 2 && c.rank == 2 && out.rank == 2, "matmul_add: expected matrices");
  require(isFloat(a.dtype) && isFloat(b.dtype), "matmul_add: expected floats");
  require(c.dtype == DType::Float32 && out.dtype == DType::Float32, "matmul_add: expected a float32 sum");
  const int64_t M = out.shape[0], N = out.shape[1], K = a.shape[1];
  require(a.shape[0] == M && b.shape[1] == N && b.shape[0] == K && c.shape[0] == M && c.shape[1] == N,
          "matmul_add: expected a[M,K], b[K,N], c[M,N] and out[M,N]");
  if (M == 0 || N == 0) return;
  const bool rounded = args.ints[0] == 1;
  const int64_t step = std::clamp<int64_t>(kBlock / N, 1, M);
  float* product = static_cast<float*>(ThreadPool::scratch(step * N * 4, 3));
  for (int64_t from = 0; from < M; from += step) {
    const int64_t rows = std::min(step, M - from);
    Product p{rows, N, K,
              {static_cast<const char*>(a.data) + from * a.strides[0] * bytesOf(a.dtype), a.dtype, a.strides[0], a.strides[1], rounded},
              {static_cast<const char*>(b.data), b.dtype, b.strides[1], b.strides[0], rounded},
              product, N};
    // The stride of a single line means nothing; do not take it for contiguous lines.
    if (rows == 1) p.a.lineStride = 0;
    if (N == 1) p.b.lineStride = 0;
    multiply(p, args.pool);
    const float* sum = c.as<float>() + from * N;
    float* to = out.as<float>() + from * N;
    args.pool.parallelRange(rows * N, 16384, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += simd::kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(simd::kLanes, end - i));
        simd::storeUpTo(to + i, simd::loadUpTo(sum + i, lanes) + simd::loadUpTo(product + i, lanes), lanes);
      }
    });
  }
}

PLINTH_KERNEL("matmul_add", matmulAdd);

}  // namespace
}  // namespace plinth
