// A sparse linear map along one axis: each result is a weighted sum of a few elements. Contract: KERNELS.md ("resample").
#include <algorithm>
#include <string>
#include <vector>

#include "../kernel.h"
#include "../simd.h"

namespace plinth {
namespace {

// y[o, j, i] = sum over t of weights[j, t] * x[o, ids[j, t], i]; transposed, sums each y back to the x it came from.
void resample(const KernelArgs& args) {
  using namespace simd;
  require(args.nIn == 3 && args.nOut == 1 && args.nInts == 2, "resample: expected x, indices and weights, [axis, transposed]");
  const Tensor &x = args.in[0], &ids = args.in[1], &weights = args.in[2], &y = args.out[0];
  require(x.dtype == DType::Float32 && ids.dtype == DType::Int32 && weights.dtype == DType::Float32 && ids.rank == 2,
          "resample: expected float32 values, indices int32[J, T] and weights[J, T]");
  const int64_t axis = args.ints[0];
  require(axis >= 0 && axis < x.rank, "resample: expected an axis of x");
  const bool transposed = args.ints[1] != 0;
  const int64_t J = ids.shape[0], T = ids.shape[1], from = x.shape[axis], to = y.shape[axis];
  require((transposed ? from : to) == J, "resample: expected one row of indices per result");
  const int64_t wide = transposed ? to : from;
  const int32_t* id = ids.as<int32_t>();
  for (int64_t i = 0; i < J * T; i++) {
    if (id[i] >= 0 && id[i] < wide) continue;
    throw std::runtime_error("resample: index " + std::to_string(id[i]) + " is outside [0, " + std::to_string(wide) + ")");
  }
  if (y.size() == 0) return;
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < x.rank; i++) (i < axis ? outer : inner) *= i == axis ? 1 : x.shape[i];
  const float* weight = weights.as<float>();
  const auto blocks = (inner + 1023) / 1024;
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, J * T * std::min<int64_t>(inner, 1024)));
  args.pool.parallelRange(outer * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t o = task / blocks, i0 = task % blocks * 1024, i1 = std::min(inner, i0 + 1024);
      const float* source = x.as<float>() + o * from * inner;
      float* target = y.as<float>() + o * to * inner;
      if (transposed) {
        for (int64_t j = 0; j < to; j++) std::fill(target + j * inner + i0, target + j * inner + i1, 0.0f);
      }
      for (int64_t j = 0; j < J; j++) {
        if (inner == 1) {
          float sum = 0;
          for (int64_t t = 0; t < T; t++) {
            const float w = weight[j * T + t];
            if (transposed) target[id[j * T + t]] += w * source[j];
            else sum += w * source[id[j * T + t]];
          }
          if (!transposed) target[j] = sum;
          continue;
        }
        for (int64_t i = i0; i < i1; i += kLanes) {
          const int lanes = static_cast<int>(std::min<int64_t>(kLanes, i1 - i));
          F32 sum = transposed ? loadUpTo(source + j * inner + i, lanes) : zero();
          for (int64_t t = 0; t < T; t++) {
            const F32 w = splat(weight[j * T + t]);
            const int64_t at = id[j * T + t] * inner + i;
            if (transposed) storeUpTo(target + at, loadUpTo(target + at, lanes) + w * sum, lanes);
            else sum = sum + w * loadUpTo(source + at, lanes);
          }
          if (!transposed) storeUpTo(target + j * inner + i, sum, lanes);
        }
      }
    }
  });
}

PLINTH_KERNEL("resample", resample);

}  // namespace
}  // namespace plinth
