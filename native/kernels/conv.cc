// Convolution and its gradients as packed products over tiles of columns. Contracts: KERNELS.md ("conv" and following).
#include <vector>

#include "kernels/conv.h"
#include "kernels/conv_depthwise.h"
#include "kernels/matmul.h"

namespace plinth {
namespace conv {
namespace {

using matmul::ceilDiv;
using matmul::Operand;
using matmul::Product;

// Elements of a tile of columns: it stays in the second-level cache between being made and being packed.
constexpr int64_t kTileElements = int64_t{1} << 17;

// A piece of the pixels. Sizes follow from the shapes of one sample, so that sums do not depend on the batch.
struct Tiling {
  int64_t width, count;
  Tiling(int64_t pixels, int64_t rows, int64_t least) {
    const int64_t most = std::max(least, kTileElements / std::max<int64_t>(rows, 1));
    const int64_t pieces = std::max<int64_t>(1, ceilDiv(pixels, most));
    width = std::max<int64_t>(1, ceilDiv(ceilDiv(pixels, pieces), 32) * 32);
    count = ceilDiv(pixels, width);
  }
};

// Makes the columns of `channels` channels for pixels [p0, p1), shared out among the threads, as an operand whose lines are
// pixels (`byPixel`) or rows.
template <typename T>
Operand columnsOf(const Geometry& g, const T* image, int64_t channels, int64_t p0, int64_t p1, bool byPixel,
                  ThreadPool& pool) {
  const int64_t rows = channels * g.T, n = p1 - p0;
  const DType dtype = std::is_same_v<T, float> ? DType::Float32
                      : std::is_same_v<T, BFloat16> ? DType::BFloat16 : DType::Float16;
  T* to = static_cast<T*>(ThreadPool::scratch(rows * n * static_cast<int64_t>(sizeof(T)), 3));
  const char* data = reinterpret_cast<const char*>(to);
  if (g.isPatches()) {
    pool.parallelRange(n, std::max<int64_t>(1, 65536 / rows), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        forEachPatchRun(g, channels, p0 + i, [&](int64_t k, int64_t count, int64_t at) {
          if (at < 0) std::fill(to + i * rows + k, to + i * rows + k + count, T{});
          else copyRun(image + at, 1, to + i * rows + k, count);
        });
      }
    });
    return byPixel ? Operand{data, dtype, rows, 1} : Operand{data, dtype, 1, rows};
  }
  pool.parallelRange(rows, std::max<int64_t>(1, 65536 / n), [&](int64_t begin, int64_t end) {
    fillRows(g, image, begin, end, p0, p1, to + begin * n, n);
  });
  return byPixel ? Operand{data, dtype, 1, n} : Operand{data, dtype, n, 1};
}

// Tasks run side by side when there are enough of them, else one after another with their loops shared out.
template <typename Fn>
void forTasks(ThreadPool& pool, int64_t count, Fn&& fn) {
  if (count >= 4 * pool.threads() || pool.threads() == 1) return pool.parallelFor(count, fn);
  for (int64_t task = 0; task < count; task++) fn(task);
}

template <typename T>
Operand operandOf(const T* data, int64_t lineStride, int64_t kStride) {
  const DType dtype = std::is_same_v<T, float> ? DType::Float32
                      : std::is_same_v<T, BFloat16> ? DType::BFloat16 : DType::Float16;
  return {reinterpret_cast<const char*>(data), dtype, lineStride, kStride, false};
}

template <typename X, typename W>
void forward(const Geometry& g, const X* x, const W* w, float* y, ThreadPool& pool) {
  const int64_t rows = g.Cg * g.T;
  const Tiling tiles = g.isPointwise() ? Tiling(g.P, rows, 512) : Tiling(g.P, rows, 128);
  forTasks(pool, g.N * g.groups * tiles.count, [&](int64_t task) {
    const int64_t tile = task % tiles.count, group = task / tiles.count % g.groups, n = task / tiles.count / g.groups;
    const int64_t p0 = tile * tiles.width, p1 = std::min(g.P, p0 + tiles.width);
    const X* image = x + (n * g.C + group * g.Cg) * g.S;
    const Operand columns =
        g.isPointwise() ? operandOf(image + p0, 1, g.S) : columnsOf(g, image, g.Cg, p0, p1, true, pool);
    const Operand weight = operandOf(w + group * g.Og * rows, rows, 1);
    matmul::multiply({g.Og, p1 - p0, rows, weight, columns, y + (n * g.O + group * g.Og) * g.P + p0, g.P}, pool);
  });
}

// Channels whose columns (or sums of them) one task makes.
int64_t channelBlock(const Geometry& g, int64_t rows) { return std::clamp<int64_t>(rows / g.T, 1, g.Cg); }

template <typename Y, typename W>
void inputGrad(const Geometry& g, const Y* dy, const W* w, float* dx, ThreadPool& pool) {
  const int64_t rows = g.Cg * g.T;
  if (g.isPointwise()) {
    const Tiling tiles(g.P, g.Og, 512);
    return forTasks(pool, g.N * g.groups * tiles.count, [&](int64_t task) {
      const int64_t tile = task % tiles.count, group = task / tiles.count % g.groups, n = task / tiles.count / g.groups;
      const int64_t p0 = tile * tiles.width, p1 = std::min(g.P, p0 + tiles.width);
      matmul::multiply({g.Cg, p1 - p0, g.Og, operandOf(w + group * g.Og * rows, 1, rows),
                        operandOf(dy + (n * g.O + group * g.Og) * g.P + p0, 1, g.P),
                        dx + (n * g.C + group * g.Cg) * g.S + p0, g.S}, pool);
    });
  }
  const int64_t block = channelBlock(g, 252), blocks = ceilDiv(g.Cg, block);
  const Tiling tiles(g.P, block * g.T, 128);
  const bool patches = g.isPatches();
  forTasks(pool, g.N * g.groups * blocks, [&](int64_t task) {
    const int64_t c0 = task % blocks * block, group = task / blocks % g.groups, n = task / blocks / g.groups;
    const int64_t channels = std::min(block, g.Cg - c0), height = channels * g.T;
    float* image = dx + (n * g.C + group * g.Cg + c0) * g.S;
    std::fill(image, image + channels * g.S, 0.0f);
    const Operand weight = operandOf(w + group * g.Og * rows + c0 * g.T, 1, rows);
    float* columns = static_cast<float*>(ThreadPool::scratch(height * tiles.width * 4, 3));
    for (int64_t p0 = 0; p0 < g.P; p0 += tiles.width) {
      const int64_t p1 = std::min(g.P, p0 + tiles.width);
      const Operand output = operandOf(dy + (n * g.O + group * g.Og) * g.P + p0, 1, g.P);
      if (patches) {
        matmul::multiply({p1 - p0, height, g.Og, output, weight, columns, height}, pool);
        for (int64_t i = 0; i < p1 - p0; i++) {
          forEachPatchRun(g, channels, p0 + i, [&](int64_t k, int64_t count, int64_t at) {
            if (at >= 0) addRun(columns + i * height + k, image + at, 1, count);
          });
        }
        continue;
      }
      matmul::multiply({height, p1 - p0, g.Og, weight, output, columns, p1 - p0}, pool);
      pool.parallelRange(channels, std::max<int64_t>(1, 65536 / (g.T * (p1 - p0))), [&](int64_t begin, int64_t end) {
        addRows(g, image, begin * g.T, end * g.T, p0, p1, columns + begin * g.T * (p1 - p0), p1 - p0);
      });
    }
  });
}

template <typename X, typename Y>
void weightGrad(const Geometry& g, const X* x, const Y* dy, float* dw, ThreadPool& pool) {
  const int64_t rows = g.Cg * g.T;
  const int64_t block = channelBlock(g, 288), blocks = ceilDiv(g.Cg, block);
  const Tiling tiles(g.P, block * g.T, 384);
  forTasks(pool, g.groups * blocks, [&](int64_t task) {
    const int64_t c0 = task % blocks * block, group = task / blocks;
    const int64_t channels = std::min(block, g.Cg - c0), width = channels * g.T;
    std::vector<float> piece(static_cast<size_t>(g.Og * width));
    for (int64_t n = 0; n < g.N; n++) {
      const X* image = x + (n * g.C + group * g.Cg + c0) * g.S;
      for (int64_t p0 = 0; p0 < g.P; p0 += tiles.width) {
        const int64_t p1 = std::min(g.P, p0 + tiles.width);
        const Operand columns =
            g.isPointwise() ? operandOf(image + p0, g.S, 1) : columnsOf(g, image, channels, p0, p1, false, pool);
        const Operand output = operandOf(dy + (n * g.O + group * g.Og) * g.P + p0, g.P, 1);
        matmul::multiply({g.Og, width, p1 - p0, output, columns, piece.data(), width}, pool);
        const bool first = n == 0 && p0 == 0;
        for (int64_t o = 0; o < g.Og; o++) {
          float* to = dw + (group * g.Og + o) * rows + c0 * g.T;
          if (first) std::copy_n(piece.data() + o * width, width, to);
          else addRun(piece.data() + o * width, to, 1, width);
        }
      }
    }
  });
}

// The two inputs as the operands of products: rounded to bfloat16 into the workspace where that is asked for.
struct Operands {
  Tensor a, b;
  explicit Operands(const KernelArgs& args) : a(args.in[0]), b(args.in[1]) {
    if (args.ints[0] != 1) return;
    char* room = static_cast<char*>(args.workspace);
    for (Tensor* t : {&a, &b}) {
      if (t->dtype == DType::BFloat16) continue;
      const int64_t n = t->size();
      BFloat16* to = reinterpret_cast<BFloat16*>(room);
      room += (n * 2 + 63) / 64 * 64;
      require(room - static_cast<char*>(args.workspace) <= args.workspaceBytes, "conv: expected workspace for bfloat16 operands");
      withFloat(t->dtype, [&](auto type) {
        const auto* from = t->as<decltype(type)>();
        args.pool.parallelRange(n, 1 << 16, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; i += simd::kLanes) {
            if (i + simd::kLanes <= end) storeVector(to + i, loadVector(from + i));
            else for (int64_t j = i; j < end; j++) to[j] = convert<BFloat16>(from[j]);
          }
        });
      });
      t->data = to;
      t->dtype = DType::BFloat16;
    }
  }

  template <typename F>
  static void withFloat(DType dtype, F&& fn) {
    if (dtype == DType::Float32) return fn(float{});
    if (dtype == DType::BFloat16) return fn(BFloat16{});
    require(dtype == DType::Float16, "conv: expected floating inputs");
    fn(Float16{});
  }
  template <typename F>
  void call(F&& fn) const {
    withFloat(a.dtype, [&](auto x) {
      withFloat(b.dtype, [&](auto y) { fn(a.as<decltype(x)>(), b.as<decltype(y)>()); });
    });
  }
};

// Checks the arguments; true where every sum is empty (the result, zeros, is then written).
bool isEmpty(const KernelArgs& args) {
  require(args.nIn == 2 && args.nOut == 1 && args.nInts >= 3 && args.out[0].dtype == DType::Float32,
          "conv: expected two inputs and one float32 output");
  if (args.in[0].size() != 0 && args.in[1].size() != 0) return false;
  std::fill_n(args.out[0].as<float>(), args.out[0].size(), 0.0f);
  return true;
}

void convKernel(const KernelArgs& args) {
  if (isEmpty(args)) return;
  const Geometry g(args, args.in[0], args.in[1], args.out[0]);
  if (args.out[0].size() == 0) return;
  Operands(args).call([&](const auto* x, const auto* w) {
    if (isDepthwise(g)) depthwiseForward(g, x, w, args.out[0].as<float>(), args.pool);
    else forward(g, x, w, args.out[0].as<float>(), args.pool);
  });
}

void convInputGradKernel(const KernelArgs& args) {
  if (isEmpty(args)) return;
  const Geometry g(args, args.out[0], args.in[1], args.in[0]);
  if (args.out[0].size() == 0) return;
  Operands(args).call([&](const auto* dy, const auto* w) {
    if (isDepthwise(g)) depthwiseInputGrad(g, dy, w, args.out[0].as<float>(), args.pool);
    else inputGrad(g, dy, w, args.out[0].as<float>(), args.pool);
  });
}

void convWeightGradKernel(const KernelArgs& args) {
  if (isEmpty(args)) return;
  const Geometry g(args, args.in[0], args.out[0], args.in[1]);
  if (args.out[0].size() == 0) return;
  Operands(args).call([&](const auto* x, const auto* dy) {
    if (isDepthwise(g)) depthwiseWeightGrad(g, x, dy, args.out[0].as<float>(), args.pool);
    else weightGrad(g, x, dy, args.out[0].as<float>(), args.pool);
  });
}

PLINTH_KERNEL("conv", convKernel);
PLINTH_KERNEL("conv_input_grad", convInputGradKernel);
PLINTH_KERNEL("conv_weight_grad", convWeightGradKernel);

}  // namespace
}  // namespace conv
}  // namespace plinth
