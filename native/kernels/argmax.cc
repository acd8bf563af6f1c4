// Index of the first largest element along the last axis. Contract: KERNELS.md ("argmax").
#include "../kernel.h"
#include "runs.h"

namespace plinth {
namespace {

void argmax(const KernelArgs& args) {
  require(args.nIn == 1 && args.nOut == 1 && args.in[0].rank >= 1, "argmax: expected one input with an axis");
  const Tensor &x = args.in[0], &out = args.out[0];
  require(x.dtype == DType::Float32 && out.dtype == DType::Int32, "argmax: expected float32 in, int32 out");
  const int64_t width = x.last(0), rows = out.size();
  require(width > 0 || rows == 0, "argmax: expected a last axis that is not empty");
  if (rows == 0) return;
  args.pool.parallelRange(rows, std::max<int64_t>(1, 16384 / width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float* row = x.as<float>() + r * width;
      const float best = maxRun(row, width);
      int64_t i = 0;
      while (!(row[i] == best || (row[i] != row[i] && best != best))) i++;
      out.as<int32_t>()[r] = static_cast<int32_t>(i);
    }
  });
}

PLINTH_KERNEL("argmax", argmax);

}  // namespace
}  // namespace plinth
