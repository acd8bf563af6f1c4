// Largest element of each window and where it is. Contract: KERNELS.md ("max_pool").
#include <algorithm>
#include <limits>

#include "../kernel.h"

namespace plinth {
namespace {

// One to three axes, held as three.
struct Windows {
  int64_t size[3] = {1, 1, 1}, out[3] = {1, 1, 1}, taps[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, low[3] = {0, 0, 0},
          dilation[3] = {1, 1, 1};
};

void maxPool(const KernelArgs& args) {
  require(args.nIn == 1 && args.nOut == 2 && args.nInts >= 1, "max_pool: expected one input, values and positions");
  const Tensor &x = args.in[0], &y = args.out[0], &positions = args.out[1];
  const int axes = static_cast<int>(args.ints[0]);
  require(axes >= 1 && axes <= 3 && x.rank == axes + 2 && y.rank == x.rank && args.nInts == 1 + 4 * axes,
          "max_pool: expected x[N, C, ...] with one to three spatial axes");
  require(x.dtype == DType::Float32 && y.dtype == DType::Float32 && positions.dtype == DType::Int32,
          "max_pool: expected float32, positions of int32");
  Windows w;
  for (int i = 0; i < axes; i++) {
    const int at = 3 - axes + i;
    w.size[at] = x.shape[2 + i], w.out[at] = y.shape[2 + i], w.taps[at] = args.ints[1 + i];
    w.stride[at] = args.ints[1 + axes + i], w.low[at] = args.ints[1 + 2 * axes + i];
    w.dilation[at] = args.ints[1 + 3 * axes + i];
    require(w.stride[at] >= 1 && w.dilation[at] >= 1, "max_pool: expected positive strides and dilations");
  }
  const int64_t points = w.size[0] * w.size[1] * w.size[2], results = w.out[0] * w.out[1] * w.out[2];
  if (y.size() == 0) return;
  args.pool.parallelRange(y.size() / results * w.out[0] * w.out[1], std::max<int64_t>(1, 4096 / w.out[2]), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; line++) {
      const int64_t at[2] = {line / w.out[1] % w.out[0], line % w.out[1]};
      const float* plane = x.as<float>() + line / (w.out[0] * w.out[1]) * points;
      for (int64_t q = 0; q < w.out[2]; q++) {
        float best = -std::numeric_limits<float>::infinity();
        int64_t place = -1;
        for (int64_t a = 0; a < w.taps[0]; a++) {
          const int64_t z = at[0] * w.stride[0] + a * w.dilation[0] - w.low[0];
          if (z < 0 || z >= w.size[0]) continue;
          for (int64_t b = 0; b < w.taps[1]; b++) {
            const int64_t v = at[1] * w.stride[1] + b * w.dilation[1] - w.low[1];
            if (v < 0 || v >= w.size[1]) continue;
            const int64_t row = (z * w.size[1] + v) * w.size[2];
            for (int64_t c = 0; c < w.taps[2]; c++) {
              const int64_t u = q * w.stride[2] + c * w.dilation[2] - w.low[2];
              if (u < 0 || u >= w.size[2]) continue;
              const float value = plane[row + u];
              // The first of equals; a NaN stays.
              if (place < 0 || value > best || (value != value && best == best)) best = value, place = row + u;
            }
          }
        }
        require(place >= 0, "max_pool: a window lies outside the input");
        y.as<float>()[line * w.out[2] + q] = best;
        positions.as<int32_t>()[line * w.out[2] + q] = static_cast<int32_t>(place);
      }
    }
  });
}

PLINTH_KERNEL("max_pool", maxPool);

}  // namespace
}  // namespace plinth
