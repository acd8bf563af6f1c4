// The kernel "matmul": a[..., M, K] x b[..., K, N] -> [..., M, N], batch axes, epilogue. Contract: KERNELS.md.
#include "kernels/matmul.h"

#include <algorithm>

#include "kernel.h"

namespace plinth {
namespace matmul {
namespace {

// Below so many multiply-adds the items of a batch are shared out whole.
constexpr int64_t kSmallProduct = int64_t{1} << 22;
constexpr int64_t kTaskWork = int64_t{1} << 19;

// Batch axes, innermost first, with their strides for a, b and c.
struct Batch {
  int rank = 0;
  int64_t sizes[kMaxRank], a[kMaxRank], b[kMaxRank], c[kMaxRank];
  int64_t count = 1;

  void add(int64_t size, int64_t stepA, int64_t stepB, int64_t stepC) {
    sizes[rank] = size;
    a[rank] = stepA;
    b[rank] = stepB;
    c[rank++] = stepC;
    count *= size;
  }

  Product item(const Product& p, int64_t index) const {
    Product q = p;
    for (int i = 0; i < rank; i++) {
      const int64_t at = index % sizes[i];
      index /= sizes[i];
      q.a.data += at * a[i] * bytesOf(q.a.dtype);
      q.b.data += at * b[i] * bytesOf(q.b.dtype);
      q.first += at * c[i];
    }
    if (q.c != nullptr) q.c += q.first;
    return q;
  }
};

void matmulKernel(const KernelArgs& args) {
  require(args.nIn >= 2 && args.nOut >= 1, "matmul: expected at least two inputs and one output");
  const int64_t operands = args.nInts > 0 ? args.ints[0] : 0;
  require(operands == 0 || operands == 1, "matmul: expected operands 0 (as they are) or 1 (bfloat16)");
  require(args.nInts > 1 || (args.nIn == 2 && args.nOut == 1), "matmul: expected two inputs and one output");
  const Tensor &a = args.in[0], &b = args.in[1], &c = args.out[0];
  const int r = c.rank;
  const auto isFloat = [](DType t) { return t == DType::Float32 || t == DType::BFloat16 || t == DType::Float16; };
  require(r >= 2 && a.rank == r && b.rank == r, "matmul: expected operands of equal rank, at least 2");
  require(isFloat(a.dtype) && isFloat(b.dtype), "matmul: expected floats");
  require(args.nInts > 1 || isFloat(c.dtype), "matmul: expected floats");
  require(a.shape[r - 2] == c.shape[r - 2] && b.shape[r - 1] == c.shape[r - 1] && a.shape[r - 1] == b.shape[r - 2],
          "matmul: expected a[..., M, K], b[..., K, N] and out[..., M, N]");
  for (int i = 0; i < args.nOut; i++) require(args.out[i].size() == c.size(), "matmul: expected outputs [..., M, N]");
  if (c.size() == 0) return;
  const Epilogue epilogue(args);
  Product p{c.shape[r - 2], c.shape[r - 1], a.shape[r - 1],
            {static_cast<const char*>(a.data), a.dtype, a.strides[r - 2], a.strides[r - 1], operands == 1},
            {static_cast<const char*>(b.data), b.dtype, b.strides[r - 1], b.strides[r - 2], operands == 1},
            epilogue.isNeeded() ? nullptr : c.as<float>(), c.shape[r - 1], epilogue.isNeeded() ? &epilogue : nullptr};
  // The stride of a single line means nothing; do not take it for contiguous lines.
  if (p.M == 1) p.a.lineStride = 0;
  if (p.N == 1) p.b.lineStride = 0;
  Batch batch;
  for (int i = r - 3; i >= 0; i--) {
    const int64_t n = c.shape[i];
    require(a.shape[i] == n && b.shape[i] == n, "matmul: expected equal batch axes");
    if (n == 1) continue;
    const int64_t stepA = a.strides[i], stepB = b.strides[i];
    // The same b for all: more rows of one product.
    if (batch.rank == 0 && stepB == 0 && (p.M == 1 || stepA == p.M * p.a.lineStride)) {
      if (p.M == 1) p.a.lineStride = stepA;
      p.M *= n;
      continue;
    }
    int64_t stepC = p.N;
    for (int axis = i + 1; axis < r - 1; axis++) stepC *= c.shape[axis];
    batch.add(n, stepA, stepB, stepC);
  }
  const int64_t work = p.M * p.N * p.K;
  if (batch.count > 1 && (work < kSmallProduct || batch.count >= 8 * args.pool.threads())) {
    const int64_t group = std::max<int64_t>(1, std::min(kTaskWork / std::max<int64_t>(work, 1), batch.count));
    args.pool.parallelRange(batch.count, group, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) multiply(batch.item(p, i), args.pool);
    });
  } else {
    for (int64_t i = 0; i < batch.count; i++) multiply(batch.item(p, i), args.pool);
  }
}

PLINTH_KERNEL("matmul", matmulKernel);

}  // namespace
}  // namespace matmul
}  // namespace plinth
