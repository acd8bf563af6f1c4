// Rows in groups that lie one after another, each group with a matrix of its own (mixtures of experts). Contracts: KERNELS.md
// ("grouped_matmul", "grouped_outer").
#include <vector>

#include "kernel.h"
#include "kernels/matmul.h"

namespace plinth {
namespace matmul {
namespace {

bool isFloat(DType t) { return t == DType::Float32 || t == DType::BFloat16 || t == DType::Float16; }

// Rows of each group. Their sum is what the program cannot know.
std::vector<int64_t> sizesOf(const Tensor& sizes, int64_t groups, int64_t rows) {
  require(sizes.dtype == DType::Int32 && sizes.rank == 1 && sizes.shape[0] == groups,
          "grouped_matmul: expected int32 sizes, one of each group");
  std::vector<int64_t> out(static_cast<size_t>(groups));
  int64_t total = 0;
  for (int64_t e = 0; e < groups; e++) {
    const int64_t size = sizes.as<int32_t>()[e];
    require(size >= 0, "grouped_matmul: expected sizes of 0 or more");
    out[static_cast<size_t>(e)] = size;
    total += size;
  }
  if (total != rows) {
    throw std::runtime_error("grouped_matmul: expected sizes that sum to the " + std::to_string(rows) + " rows, got " +
                             std::to_string(total));
  }
  return out;
}

// The stride of a single line means nothing; do not take it for contiguous lines.
void multiplyLines(Product p, ThreadPool& pool) {
  if (p.M == 1) p.a.lineStride = 0;
  if (p.N == 1) p.b.lineStride = 0;
  multiply(p, pool);
}

void groupedMatmul(const KernelArgs& args) {
  require(args.nIn >= 2 && args.nOut == 1 && args.nInts == 2,
          "grouped_matmul: expected x, sizes and matrices, one output, [operands, transposed]");
  const Tensor &x = args.in[0], &out = args.out[0];
  require(x.rank == 2 && out.rank == 2 && x.shape[0] == out.shape[0], "grouped_matmul: expected x[N,K] and out[N,F]");
  require(isFloat(x.dtype) && out.dtype == DType::Float32, "grouped_matmul: expected floats, and a float32 result");
  const int64_t K = x.shape[1], F = out.shape[1], groups = args.nIn - 2;
  const bool rounded = args.ints[0] == 1, transposed = args.ints[1] == 1;
  const std::vector<int64_t> sizes = sizesOf(args.in[1], groups, x.shape[0]);
  int64_t row = 0;
  for (int64_t e = 0; e < groups; e++) {
    const Tensor& w = args.in[2 + e];
    require(isFloat(w.dtype) && w.rank == 2 && w.shape[0] == (transposed ? F : K) && w.shape[1] == (transposed ? K : F),
            "grouped_matmul: expected matrices [F,K] (transposed) or [K,F]");
    const int64_t rows = sizes[static_cast<size_t>(e)];
    multiplyLines({rows, F, K,
                   {static_cast<const char*>(x.data) + row * K * bytesOf(x.dtype), x.dtype, K, 1, rounded},
                   {static_cast<const char*>(w.data), w.dtype, transposed ? K : 1, transposed ? 1 : F, rounded},
                   out.as<float>() + row * F, F},
                  args.pool);
    row += rows;
  }
}

void groupedOuter(const KernelArgs& args) {
  require(args.nIn == 3 && args.nOut >= 1 && args.nInts == 1, "grouped_outer: expected a, b and sizes, [operands]");
  const Tensor &a = args.in[0], &b = args.in[1];
  require(a.rank == 2 && b.rank == 2 && a.shape[0] == b.shape[0], "grouped_outer: expected a[N,P] and b[N,Q]");
  require(isFloat(a.dtype) && isFloat(b.dtype), "grouped_outer: expected floats");
  const int64_t P = a.shape[1], Q = b.shape[1];
  const bool rounded = args.ints[0] == 1;
  const std::vector<int64_t> sizes = sizesOf(args.in[2], args.nOut, a.shape[0]);
  int64_t row = 0;
  for (int e = 0; e < args.nOut; e++) {
    const Tensor& out = args.out[e];
    require(out.dtype == DType::Float32 && out.rank == 2 && out.shape[0] == P && out.shape[1] == Q,
            "grouped_outer: expected float32 results [P,Q]");
    const int64_t rows = sizes[static_cast<size_t>(e)];
    multiplyLines({P, Q, rows,
                   {static_cast<const char*>(a.data) + row * P * bytesOf(a.dtype), a.dtype, 1, P, rounded},
                   {static_cast<const char*>(b.data) + row * Q * bytesOf(b.dtype), b.dtype, 1, Q, rounded},
                   out.as<float>(), Q},
                  args.pool);
    row += rows;
  }
}

PLINTH_KERNEL("grouped_matmul", groupedMatmul);
PLINTH_KERNEL("grouped_outer", groupedOuter);

}  // namespace
}  // namespace matmul
}  // namespace plinth
