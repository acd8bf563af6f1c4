// Elements picked and placed by index along one axis, and running sums. Contracts: KERNELS.md ("gather_along",
// "scatter_along_add", "scatter_along", "cumsum").
#include <algorithm>
#include <cstring>
#include <string>

#include "../kernel.h"
#include "../simd.h"

namespace plinth {
namespace {

// A row-major tensor seen as [outer, n, inner] around an axis.
struct Around {
  int64_t outer = 1, n, inner = 1;
  Around(const Tensor& t, int64_t axis) {
    require(axis >= 0 && axis < t.rank, "along: expected an axis of the tensor");
    n = t.shape[axis];
    for (int i = 0; i < t.rank; i++) (i < axis ? outer : inner) *= i == axis ? 1 : t.shape[i];
  }
};

int64_t checkedIndex(const char* kernel, int32_t index, int64_t n) {
  if (index >= 0 && index < n) return index;
  throw std::runtime_error(std::string(kernel) + ": index " + std::to_string(index) + " is outside [0, " + std::to_string(n) + ")");
}

bool isWord(const Tensor& t) { return bytesOf(t.dtype) == 4; }

void gatherAlong(const KernelArgs& args) {
  require(args.nIn == 2 && args.nOut == 1 && args.nInts == 1, "gather_along: expected values and indices, an axis");
  const Tensor &x = args.in[0], &ids = args.in[1], &out = args.out[0];
  require(isWord(x) && x.dtype == out.dtype && ids.dtype == DType::Int32, "gather_along: expected 4-byte values, int32 indices");
  const Around from(x, args.ints[0]), to(ids, args.ints[0]);
  require(ids.size() == out.size() && (out.size() == 0 || (from.outer == to.outer && from.inner == to.inner)),
          "gather_along: expected indices like the output, and like the values but along the axis");
  if (out.size() == 0) return;
  args.pool.parallelRange(to.outer * to.n, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, to.inner)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int32_t* values = x.as<int32_t>() + row / to.n * from.n * from.inner;
      for (int64_t i = 0; i < to.inner; i++) {
        const int64_t at = row * to.inner + i;
        out.as<int32_t>()[at] = values[checkedIndex("gather_along", ids.as<int32_t>()[at], from.n) * from.inner + i];
      }
    }
  });
}

// Adds or stores, in order of position: a task owns whole lines along the axis.
template <bool Add>
void scatterLines(const char* kernel, const Tensor& ids, const Tensor& updates, const Tensor& out, int64_t axis, ThreadPool& pool) {
  const Around from(ids, axis), to(out, axis);
  require(ids.size() == updates.size() && from.outer == to.outer && from.inner == to.inner,
          "scatter_along: expected an update for every index, and indices like the output but along the axis");
  const int64_t grain = std::max<int64_t>(16, 16384 / std::max<int64_t>(1, from.n));
  const int64_t pieces = (from.inner + grain - 1) / std::max<int64_t>(1, grain);
  pool.parallelFor(from.outer * pieces, [&](int64_t task) {
    const int64_t o = task / pieces, begin = task % pieces * grain, end = std::min(from.inner, begin + grain);
    float* values = out.as<float>() + o * to.n * to.inner;
    for (int64_t j = 0; j < from.n; j++) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t at = (o * from.n + j) * from.inner + i;
        float& place = values[checkedIndex(kernel, ids.as<int32_t>()[at], to.n) * to.inner + i];
        place = Add ? place + updates.as<float>()[at] : updates.as<float>()[at];
      }
    }
  });
}

void scatterAlongAdd(const KernelArgs& args) {
  require(args.nIn == 2 && args.nOut == 1 && args.nInts == 1, "scatter_along_add: expected indices and updates, an axis");
  const Tensor &ids = args.in[0], &updates = args.in[1], &out = args.out[0];
  require(ids.dtype == DType::Int32 && updates.dtype == DType::Float32 && out.dtype == DType::Float32,
          "scatter_along_add: expected int32 indices and float32 updates");
  args.pool.parallelRange(out.size(), 1 << 18, [&](int64_t begin, int64_t end) {
    std::memset(out.as<float>() + begin, 0, static_cast<size_t>(end - begin) * 4);
  });
  if (ids.size() > 0) scatterLines<true>("scatter_along_add", ids, updates, out, args.ints[0], args.pool);
}

void scatterAlong(const KernelArgs& args) {
  require(args.nIn == 3 && args.nOut == 1 && args.nInts == 1, "scatter_along: expected x, indices and updates, an axis");
  const Tensor &x = args.in[0], &ids = args.in[1], &updates = args.in[2], &out = args.out[0];
  require(x.dtype == DType::Float32 && ids.dtype == DType::Int32 && updates.dtype == DType::Float32,
          "scatter_along: expected float32 values and int32 indices");
  require(out.dtype == DType::Float32 && x.size() == out.size(), "scatter_along: expected an output like x");
  if (out.data != x.data) {
    args.pool.parallelRange(out.size(), 1 << 18, [&](int64_t begin, int64_t end) {
      std::copy(x.as<float>() + begin, x.as<float>() + end, out.as<float>() + begin);
    });
  }
  if (ids.size() > 0) scatterLines<false>("scatter_along", ids, updates, out, args.ints[0], args.pool);
}

void cumsum(const KernelArgs& args) {
  require(args.nIn == 1 && args.nOut == 1 && args.nInts == 3, "cumsum: expected one input, [axis, exclusive, reverse]");
  const Tensor &x = args.in[0], &out = args.out[0];
  require(x.dtype == DType::Float32 && out.dtype == DType::Float32, "cumsum: expected float32");
  if (out.size() == 0) return;
  const Around at(x, args.ints[0]);
  const bool exclusive = args.ints[1] != 0, reverse = args.ints[2] != 0;
  const int64_t width = simd::kLanes, columns = (at.inner + width - 1) / width;
  args.pool.parallelRange(at.outer * columns, std::max<int64_t>(1, 4096 / at.n), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t i = task % columns * width, first = task / columns * at.n * at.inner + i;
      const int lanes = static_cast<int>(std::min(width, at.inner - i));
      simd::F32 sum = simd::zero();
      for (int64_t j = 0; j < at.n; j++) {
        const int64_t place = first + (reverse ? at.n - 1 - j : j) * at.inner;
        const simd::F32 next = sum + simd::loadUpTo(x.as<float>() + place, lanes);
        simd::storeUpTo(out.as<float>() + place, exclusive ? sum : next, lanes);
        sum = next;
      }
    }
  });
}

PLINTH_KERNEL("gather_along", gatherAlong);
PLINTH_KERNEL("scatter_along_add", scatterAlongAdd);
PLINTH_KERNEL("scatter_along", scatterAlong);
PLINTH_KERNEL("cumsum", cumsum);

}  // namespace
}  // namespace plinth
