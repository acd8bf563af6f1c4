// Negative log-likelihood of integer targets under softmax(logits), and its gradient. Contracts: KERNELS.md
// ("cross_entropy", "cross_entropy_grad").
#include <algorithm>
#include <cstring>
#include <string>
#include <cmath>

#include "../kernel.h"
#include "../simd_math.h"
#include "element.h"
#include "runs.h"

namespace plinth {
namespace {

using namespace simd;

// Columns read at a time: they stay in the first-level cache between the maximum and the exponentials.
constexpr int64_t kColumns = 4096;

int64_t rowsPerTask(int64_t width) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(width, 1)); }

void checkTarget(int64_t row, int32_t target, int64_t classes) {
  if (target >= 0 && target < classes) return;
  throw std::runtime_error("cross_entropy: target " + std::to_string(target) + " at position " + std::to_string(row) +
                           " is outside [0, " + std::to_string(classes) + ")");
}

// log(sum(exp(x))), in one pass over blocks with a running maximum.
float logSumExp(const float* x, int64_t n) {
  float top = -kInfinity;
  double total = 0;
  for (int64_t at = 0; at < n; at += kColumns) {
    const float* block = x + at;
    const int64_t count = std::min(kColumns, n - at);
    const float blockTop = maxRun(block, count);
    if (blockTop != blockTop) return blockTop;
    if (blockTop == -kInfinity) continue;
    if (blockTop > top) {
      total *= std::exp(static_cast<double>(top) - static_cast<double>(blockTop));
      top = blockTop;
    }
    const F32 shift = splat(top);
    total += sumRunOf(count, [&](int64_t i, int lanes) {
      F32 v = loadUpTo(block + i, lanes);
      if (lanes < kLanes) v = select(greater(splatInt(lanes), iota()), v, splat(-kInfinity));
      return simd::exp(v - shift);
    });
  }
  return top == -kInfinity || top == kInfinity ? top : static_cast<float>(top + std::log(total));
}

void crossEntropy(const KernelArgs& args) {
  require(args.nIn == 2 && args.nOut == 2 && args.nInts >= 1,
          "cross_entropy: expected logits, targets and [ignoreIndex]");
  const Tensor& logits = args.in[0];
  require(logits.dtype == DType::Float32 && args.in[1].dtype == DType::Int32, "cross_entropy: expected float32 logits, int32 targets");
  const int64_t rows = args.in[1].size(), width = logits.last(0);
  const int32_t* targets = args.in[1].as<int32_t>();
  const int64_t firstRow = args.nInts > 1 ? args.ints[1] : 0;
  float *loss = args.out[0].as<float>(), *lse = args.out[1].as<float>();
  args.pool.parallelRange(rows, rowsPerTask(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float* row = logits.as<float>() + r * width;
      const bool ignored = targets[r] == args.ints[0];
      if (!ignored) checkTarget(firstRow + r, targets[r], width);
      lse[r] = logSumExp(row, width);
      loss[r] = ignored ? 0.0f : lse[r] - row[targets[r]];
    }
  });
}

// dlogits = dloss (softmax - onehot); 0 where ignored.
template <typename D>
void crossEntropyGradTo(const KernelArgs& args) {
  const Tensor& logits = args.in[0];
  const int64_t rows = args.in[1].size(), width = logits.last(0);
  const int32_t* targets = args.in[1].as<int32_t>();
  const int64_t firstRow = args.nInts > 1 ? args.ints[1] : 0;
  const float *lse = args.in[2].as<float>(), *dloss = args.in[3].as<float>();
  D* dlogits = args.out[0].as<D>();
  args.pool.parallelRange(rows, rowsPerTask(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      D* to = dlogits + r * width;
      if (targets[r] == args.ints[0]) {
        std::fill_n(to, width, convert<D>(0.0f));
        continue;
      }
      checkTarget(firstRow + r, targets[r], width);
      const float* row = logits.as<float>() + r * width;
      // Read first: `to` may be `row`.
      const float atTarget = row[targets[r]];
      const F32 shift = splat(lse[r]), scale = splat(dloss[r]);
      int64_t i = 0;
      for (; i + kLanes <= width; i += kLanes) storeVector(to + i, scale * simd::exp(load(row + i) - shift));
      const int rest = static_cast<int>(width - i);
      if (rest > 0) storeVectorUpTo(to + i, scale * simd::exp(loadPartial(row + i, rest) - shift), rest);
      // exp(x) - 1 at the target keeps its accuracy where the model is sure.
      to[targets[r]] = convert<D>(dloss[r] * std::expm1(atTarget - lse[r]));
    }
  });
}

void crossEntropyGrad(const KernelArgs& args) {
  require(args.nIn == 4 && args.nOut == 1 && args.nInts >= 1,
          "cross_entropy_grad: expected logits, targets, lse, dloss and [ignoreIndex]");
  require(args.in[0].dtype == DType::Float32 && args.in[1].dtype == DType::Int32, "cross_entropy_grad: expected float32 logits, int32 targets");
  withFloat(args.out[0].dtype, "cross_entropy_grad: expected float dlogits",
            [&](auto type) { crossEntropyGradTo<decltype(type)>(args); });
}

PLINTH_KERNEL("cross_entropy", crossEntropy);
PLINTH_KERNEL("cross_entropy_grad", crossEntropyGrad);

}  // namespace
}  // namespace plinth
