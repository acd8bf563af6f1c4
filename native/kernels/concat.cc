// Concatenation along one axis: each input is copied into its window of the output.
#include "kernels/copy.h"

namespace plinth {
namespace {

void concatKernel(const KernelArgs& args) {
  require(args.nOut == 1 && args.nInts == 1, "concat: expected one output and an axis");
  const Tensor& out = args.out[0];
  const int axis = static_cast<int>(args.ints[0]);
  require(axis >= 0 && axis < out.rank, "concat: the axis is out of range");
  int64_t from = 0;
  for (int i = 0; i < args.nIn; i++) {
    const Tensor& in = args.in[i];
    require(in.rank == out.rank, "concat: expected inputs of the output's rank");
    Tensor window = out;
    window.shape[axis] = in.shape[axis];
    require(from + in.shape[axis] <= out.shape[axis], "concat: the inputs are longer than the output");
    window.data = out.as<char>() + from * out.strides[axis] * bytesOf(out.dtype);
    copyStrided(in, window, args.pool);
    from += in.shape[axis];
  }
  require(from == out.shape[axis], "concat: the inputs are shorter than the output");
}

PLINTH_KERNEL("concat", concatKernel);

}  // namespace
}  // namespace plinth
