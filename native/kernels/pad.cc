// Zeros around a tensor.
#include <algorithm>
#include <cstring>

#include "kernels/copy.h"

namespace plinth {
namespace {

// Writes zeros where row `row` (over all axes but the last) lies outside the window or beside it.
void zeroRow(const Tensor& out, const Tensor& in, const int64_t* low, int64_t row, int64_t bytes) {
  const int last = out.rank - 1;
  char* to = out.as<char>() + row * out.shape[last] * bytes;
  bool inside = true;
  for (int i = last - 1; i >= 0; i--) {
    const int64_t index = row % out.shape[i] - low[i];
    row /= out.shape[i];
    inside = inside && index >= 0 && index < in.shape[i];
  }
  const int64_t before = inside ? low[last] : out.shape[last];
  const int64_t after = inside ? out.shape[last] - low[last] - in.shape[last] : 0;
  std::memset(to, 0, static_cast<size_t>(before * bytes));
  std::memset(to + (out.shape[last] - after) * bytes, 0, static_cast<size_t>(after * bytes));
}

void padKernel(const KernelArgs& args) {
  require(args.nIn == 1 && args.nOut == 1, "pad: expected one input and one output");
  const Tensor &in = args.in[0], &out = args.out[0];
  require(in.rank == out.rank && args.nInts == out.rank, "pad: expected one low padding per axis");
  if (out.size() == 0) return;
  if (out.rank == 0) return copyStrided(in, out, args.pool);
  Tensor window = out;
  int64_t offset = 0;
  for (int i = 0; i < out.rank; i++) {
    require(args.ints[i] >= 0 && args.ints[i] + in.shape[i] <= out.shape[i], "pad: the input does not fit in the output");
    window.shape[i] = in.shape[i];
    offset += args.ints[i] * out.strides[i];
  }
  const int64_t bytes = bytesOf(out.dtype);
  window.data = out.as<char>() + offset * bytes;
  const int64_t rows = out.rows();
  args.pool.parallelRange(rows, std::max<int64_t>(1, 32768 / out.last(0)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) zeroRow(out, in, args.ints, row, bytes);
  });
  copyStrided(in, window, args.pool);
}

PLINTH_KERNEL("pad", padKernel);

}  // namespace
}  // namespace plinth
