// Sum or maximum over any axes. Contract: KERNELS.md ("reduce"). The innermost loop runs along whichever axis is contiguous:
// a reduced one (rows) or a kept one (columns, as for bias gradients).
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../kernel.h"
#include "element.h"
#include "runs.h"

namespace plinth {
namespace {

// Rows summed into one partial of a column sum, and elements of one partial of a row sum: part of the results' bits.
constexpr int64_t kRowChunk = 256;
constexpr int64_t kRunChunk = 64 * 1024;
constexpr int64_t kColumnBlock = 512;

struct Axis {
  int64_t size, stride, outStride;  // outStride 0 on reduced axes
};

// Walks the offsets of some axes in row-major order.
struct Walk {
  std::vector<Axis> axes;
  int64_t size() const {
    int64_t n = 1;
    for (const Axis& a : axes) n *= a.size;
    return n;
  }
  Axis at(int64_t index) const {
    Axis offset{0, 0, 0};
    for (size_t i = axes.size(); i-- > 0;) {
      const int64_t k = index % axes[i].size;
      index /= axes[i].size;
      offset.stride += k * axes[i].stride;
      offset.outStride += k * axes[i].outStride;
    }
    return offset;
  }
};

// Elements are T, joined as float32.
template <typename T>
struct Problem {
  bool isMax;
  const T* x;
  float* out;
  Axis inner{1, 1, 0};
  Walk kept, reduced;  // without the inner axis
};

float join(bool isMax, float a, float b) {
  if (!isMax) return a + b;
  return a != a ? a : (b > a || b != b) ? b : a;
}

// Inner axis reduced: one output per kept index; each run of the inner axis in chunks, summed up in double.
template <typename T>
void reduceRows(const Problem<T>& p, ThreadPool& pool) {
  const int64_t outputs = p.kept.size(), runs = p.reduced.size();
  const int64_t perOutput = std::max<int64_t>(1, runs * p.inner.size);
  const int64_t chunks = (p.inner.size + kRunChunk - 1) / kRunChunk;
  const int64_t parts = runs * chunks;
  const auto part = [&](const T* x, int64_t index) {
    const int64_t begin = index % chunks * kRunChunk;
    const int64_t n = std::min(kRunChunk, p.inner.size - begin);
    const T* from = x + p.reduced.at(index / chunks).stride + begin * p.inner.stride;
    if (p.inner.stride == 1) {
      if constexpr (std::is_same_v<T, float>) {
        if (p.isMax) return maxRun(from, n);
      }
      if (!p.isMax) {
        double total = 0;
        for (int64_t i = 0; i < n; i += 1024) {
          total += sumRunOf(std::min<int64_t>(1024, n - i), [&](int64_t k, int lanes) { return loadVectorUpTo(from + i + k, lanes); });
        }
        return static_cast<float>(total);
      }
    }
    double total = p.isMax ? toFloat(from[0]) : 0.0;
    for (int64_t i = 0; i < n; i++) {
      const float v = toFloat(from[i * p.inner.stride]);
      total = p.isMax ? join(true, static_cast<float>(total), v) : total + v;
    }
    return static_cast<float>(total);
  };
  const auto finish = [&](auto&& get) {
    double total = get(0);
    for (int64_t i = 1; i < parts; i++) {
      total = p.isMax ? join(true, static_cast<float>(total), get(i)) : total + get(i);
    }
    return static_cast<float>(total);
  };
  if (parts > 1 && outputs < 64) {
    // Few long sums: the parts are the tasks.
    auto* partial = static_cast<float*>(ThreadPool::scratch(outputs * parts * 4, 3));
    const int64_t grain = std::max<int64_t>(1, kRunChunk / p.inner.size);
    pool.parallelRange(outputs * parts, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) partial[i] = part(p.x + p.kept.at(i / parts).stride, i % parts);
    });
    for (int64_t o = 0; o < outputs; o++) {
      p.out[p.kept.at(o).outStride] = finish([&](int64_t i) { return partial[o * parts + i]; });
    }
    return;
  }
  pool.parallelRange(outputs, std::max<int64_t>(1, 16384 / perOutput), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++) {
      const Axis at = p.kept.at(o);
      p.out[at.outStride] = finish([&](int64_t i) { return part(p.x + at.stride, i); });
    }
  });
}

// acc[i] = join(acc[i], x[i])
template <typename T>
void joinRow(bool isMax, float* acc, const T* x, int64_t n) {
  using namespace simd;
  for (int64_t i = 0; i < n; i += kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, n - i));
    const F32 a = loadUpTo(acc + i, lanes), b = loadVectorUpTo(x + i, lanes);
    storeUpTo(acc + i, isMax ? maxNan(a, b) : a + b, lanes);
  }
}

// Sums or maxima of `rows` rows starting at walk position `first`, over a block of columns, four rows at a time.
template <typename T>
void columnBlock(const Problem<T>& p, const T* x, int64_t first, int64_t rows, int64_t columns, float* acc) {
  using namespace simd;
  const T* row[4];
  const auto address = [&](int64_t r) { return x + p.reduced.at(first + r).stride; };
  for (int64_t i = 0; i < columns; i += kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, columns - i));
    storeUpTo(acc + i, loadVectorUpTo(address(0) + i, lanes), lanes);
  }
  int64_t r = 1;
  for (; r + 4 <= rows; r += 4) {
    for (int k = 0; k < 4; k++) row[k] = address(r + k);
    for (int64_t i = 0; i < columns; i += kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, columns - i));
      const F32 a = loadVectorUpTo(row[0] + i, lanes), b = loadVectorUpTo(row[1] + i, lanes);
      const F32 c = loadVectorUpTo(row[2] + i, lanes), d = loadVectorUpTo(row[3] + i, lanes);
      const F32 t = loadUpTo(acc + i, lanes);
      storeUpTo(acc + i, p.isMax ? maxNan(t, maxNan(maxNan(a, b), maxNan(c, d))) : t + ((a + b) + (c + d)), lanes);
    }
  }
  for (; r < rows; r++) joinRow(p.isMax, acc, address(r), columns);
}

// Inner axis kept: blocks of columns, chunks of rows; the chunks' partials are joined in a fixed tree.
template <typename T>
void reduceColumns(const Problem<T>& p, ThreadPool& pool) {
  const int64_t outer = p.kept.size(), rows = p.reduced.size(), columns = p.inner.size;
  const int64_t chunks = (rows + kRowChunk - 1) / kRowChunk;
  const int64_t blocks = (columns + kColumnBlock - 1) / kColumnBlock;
  auto* partial = static_cast<float*>(ThreadPool::scratch(outer * chunks * columns * 4, 3));
  const int64_t cost = std::min(rows, kRowChunk) * std::min(columns, kColumnBlock);
  pool.parallelRange(outer * chunks * blocks, std::max<int64_t>(1, 16384 / cost), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t block = task % blocks, chunk = task / blocks % chunks, o = task / blocks / chunks;
      const int64_t column = block * kColumnBlock, width = std::min(kColumnBlock, columns - column);
      const T* x = p.x + p.kept.at(o).stride + column;
      const int64_t first = chunk * kRowChunk;
      columnBlock(p, x, first, std::min(kRowChunk, rows - first), width, partial + (o * chunks + chunk) * columns + column);
    }
  });
  pool.parallelRange(outer, std::max<int64_t>(1, 16384 / (chunks * columns)), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++) {
      float* acc = partial + o * chunks * columns;
      for (int64_t step = 1; step < chunks; step *= 2) {  // in pairs: the rounding error grows with the logarithm only
        for (int64_t c = 0; c + step < chunks; c += 2 * step) {
          joinRow(p.isMax, acc + c * columns, acc + (c + step) * columns, columns);
        }
      }
      float* out = p.out + p.kept.at(o).outStride;
      for (int64_t i = 0; i < columns; i++) out[i * p.inner.outStride] = acc[i];
    }
  });
}

template <typename T>
void reduceOf(const KernelArgs& args) {
  const Tensor& x = args.in[0];
  bool isReduced[kMaxRank] = {};
  for (int i = 1; i < args.nInts; i++) {
    require(args.ints[i] >= 0 && args.ints[i] < x.rank, "reduce: axis out of range");
    isReduced[args.ints[i]] = true;
  }
  Problem<T> p{args.ints[0] == 1, x.as<T>(), args.out[0].as<float>(), {1, 1, 0}, {}, {}};
  const int64_t outSize = args.out[0].size();
  if (outSize == 0) return;
  if (x.size() == 0) {
    std::fill_n(p.out, outSize, p.isMax ? -simd::kInfinity : 0.0f);
    return;
  }

  // Axes with their place in the output, neighbours merged where one stride walks both.
  std::vector<Axis> axes;
  std::vector<bool> reduced;
  int64_t outStride = outSize;
  for (int i = 0; i < x.rank; i++) {
    Axis a{x.shape[i], x.strides[i], 0};
    if (!isReduced[i]) a.outStride = outStride /= a.size;
    if (a.size == 1) continue;
    if (!axes.empty() && reduced.back() == isReduced[i] && axes.back().stride == a.stride * a.size) {
      axes.back() = {axes.back().size * a.size, a.stride, a.outStride};
    } else {
      axes.push_back(a);
      reduced.push_back(isReduced[i]);
    }
  }
  // The inner axis: the last contiguous one, else the last reduced one.
  int inner = -1;
  for (size_t i = 0; i < axes.size(); i++) {
    if (axes[i].stride == 1) inner = static_cast<int>(i);
  }
  for (size_t i = axes.size(); inner < 0 && i-- > 0;) {
    if (reduced[i]) inner = static_cast<int>(i);
  }
  for (size_t i = 0; i < axes.size(); i++) {
    if (static_cast<int>(i) == inner) p.inner = axes[i];
    else (reduced[i] ? p.reduced : p.kept).axes.push_back(axes[i]);
  }
  if (inner >= 0 && !reduced[inner]) reduceColumns(p, args.pool);
  else reduceRows(p, args.pool);
}

void reduce(const KernelArgs& args) {
  require(args.nIn == 1 && args.nOut == 1 && args.nInts >= 1, "reduce: expected one input, one output and [kind, axes...]");
  require(args.out[0].dtype == DType::Float32, "reduce: expected a float32 output");
  withFloat(args.in[0].dtype, "reduce: expected a float input", [&](auto x) { reduceOf<decltype(x)>(args); });
}

PLINTH_KERNEL("reduce", reduce);

}  // namespace
}  // namespace plinth
