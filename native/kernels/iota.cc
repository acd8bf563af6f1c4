// Fills a tensor with the index along one axis.
#include <algorithm>

#include "kernel.h"

namespace plinth {
namespace {

template <typename T>
void fill(T* to, int64_t outer, int64_t n, int64_t inner, ThreadPool& pool) {
  pool.parallelRange(outer * n, std::max<int64_t>(1, 32768 / inner), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) std::fill_n(to + row * inner, inner, static_cast<T>(row % n));
  });
}

void iotaKernel(const KernelArgs& args) {
  require(args.nOut == 1 && args.nInts == 1, "fill_iota: expected one output and an axis");
  const Tensor& out = args.out[0];
  const int axis = static_cast<int>(args.ints[0]);
  require(axis >= 0 && axis < out.rank, "fill_iota: the axis is out of range");
  if (out.size() == 0) return;
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; i++) outer *= out.shape[i];
  for (int i = axis + 1; i < out.rank; i++) inner *= out.shape[i];
  if (out.dtype == DType::Int32) return fill(out.as<int32_t>(), outer, out.shape[axis], inner, args.pool);
  require(out.dtype == DType::Float32, "fill_iota: expected int32 or float32");
  fill(out.as<float>(), outer, out.shape[axis], inner, args.pool);
}

PLINTH_KERNEL("fill_iota", iotaKernel);

}  // namespace
}  // namespace plinth
