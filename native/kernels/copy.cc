// Copies and conversions of strided tensors. Where the memory orders of source and target differ, square blocks are
// transposed in registers.
#include "kernels/copy.h"

#include <cstring>
#include <utility>

#include "kernels/element.h"
#include "kernels/transpose.h"

namespace plinth {
namespace {

constexpr int64_t kTaskElements = 1 << 15;

// The loops of a copy: axes of size 1 dropped, neighbours merged where both sides allow it.
struct Loops {
  int rank = 0;
  int64_t shape[kMaxRank] = {}, from[kMaxRank] = {}, to[kMaxRank] = {};

  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }
};

Loops planLoops(const Tensor& from, const Tensor& to) {
  Loops loops;
  for (int i = 0; i < to.rank; i++) {
    if (to.shape[i] == 1) continue;
    const int last = loops.rank - 1;
    if (last >= 0 && loops.from[last] == from.strides[i] * to.shape[i] && loops.to[last] == to.strides[i] * to.shape[i]) {
      loops.shape[last] *= to.shape[i];
      loops.from[last] = from.strides[i];
      loops.to[last] = to.strides[i];
      continue;
    }
    loops.shape[loops.rank] = to.shape[i];
    loops.from[loops.rank] = from.strides[i];
    loops.to[loops.rank] = to.strides[i];
    loops.rank++;
  }
  if (loops.rank == 0) loops.shape[loops.rank++] = 1;
  return loops;
}

// Where source and target are contiguous along different axes: brings those two to the end, the source's first. Says
// whether there are such axes.
bool arrangeTransposed(Loops& loops) {
  const int last = loops.rank - 1;
  if (loops.rank < 2 || loops.from[last] <= 1 || loops.to[last] != 1) return false;
  for (int axis = 0; axis < last; axis++) {
    if (loops.from[axis] != 1) continue;
    for (int i = axis; i + 1 < last; i++) {
      std::swap(loops.shape[i], loops.shape[i + 1]);
      std::swap(loops.from[i], loops.from[i + 1]);
      std::swap(loops.to[i], loops.to[i + 1]);
    }
    return true;
  }
  return false;
}

// Walks the outer `axes` axes in row-major order, from a given position on.
struct Odometer {
  const Loops& loops;
  int axes;
  int64_t index[kMaxRank];
  int64_t from = 0, to = 0;

  Odometer(const Loops& l, int n, int64_t position) : loops(l), axes(n) {
    for (int i = axes - 1; i >= 0; i--) {
      index[i] = position % loops.shape[i];
      position /= loops.shape[i];
      from += index[i] * loops.from[i];
      to += index[i] * loops.to[i];
    }
  }
  void next() {
    for (int i = axes - 1; i >= 0; i--) {
      from += loops.from[i];
      to += loops.to[i];
      if (++index[i] < loops.shape[i]) return;
      from -= loops.from[i] * index[i];
      to -= loops.to[i] * index[i];
      index[i] = 0;
    }
  }
};

template <typename From, typename To>
void copyRow(const void* source, int64_t fromStride, void* target, int64_t toStride, int64_t n) {
  const From* from = static_cast<const From*>(source);
  To* to = static_cast<To*>(target);
  int64_t i = 0;
  if (fromStride == 1 && toStride == 1) {
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof(To));
      return;
    } else if constexpr (kIsFloat<From> && kIsFloat<To>) {
      for (; i + simd::kLanes <= n; i += simd::kLanes) storeVector(to + i, loadVector(from + i));
    }
  } else if (fromStride == 0 && toStride == 1) {
    std::fill(to, to + n, convert<To>(*from));
    return;
  }
  for (; i < n; i++) to[i * toStride] = convert<To>(from[i * fromStride]);
}

// to[r][c] = from[c][r] for r < rows, c < columns; both contiguous along their second index.
template <typename From, typename To>
void transposeTile(const void* source, int64_t fromStride, void* target, int64_t toStride, int64_t rows, int64_t columns) {
  const From* from = static_cast<const From*>(source);
  To* to = static_cast<To*>(target);
  int64_t r = 0;
  if constexpr (sizeof(From) > 1) {
    constexpr int L = simd::kLanes;
    simd::F32 block[L];
    for (; r + L <= rows; r += L) {
      int64_t c = 0;
      for (; c + L <= columns; c += L) {
        if constexpr (std::is_same_v<From, BFloat16> && std::is_same_v<To, BFloat16>) {  // 16 bits, low half of a lane
          PLINTH_UNROLL
          for (int i = 0; i < L; i++) {
            block[i] = simd::floatOf(simd::widenUnsigned(&from[(c + i) * fromStride + r].bits));
          }
          simd::transposeBlock(block);
          PLINTH_UNROLL
          for (int i = 0; i < L; i++) simd::narrow(&to[(r + i) * toStride + c].bits, simd::bitsOf(block[i]));
        } else {
          PLINTH_UNROLL
          for (int i = 0; i < L; i++) block[i] = loadVector(from + (c + i) * fromStride + r);
          simd::transposeBlock(block);
          PLINTH_UNROLL
          for (int i = 0; i < L; i++) storeVector(to + (r + i) * toStride + c, block[i]);
        }
      }
      for (; c < columns; c++) {
        for (int i = 0; i < L; i++) to[(r + i) * toStride + c] = convert<To>(from[c * fromStride + r + i]);
      }
    }
  }
  for (; r < rows; r++) {
    for (int64_t c = 0; c < columns; c++) to[r * toStride + c] = convert<To>(from[c * fromStride + r]);
  }
}

// What a copy does innermost, by element types. `tile` is missing where blocks are not worth transposing.
struct Inner {
  void (*row)(const void* from, int64_t fromStride, void* to, int64_t toStride, int64_t n) = nullptr;
  void (*tile)(const void* from, int64_t fromStride, void* to, int64_t toStride, int64_t rows, int64_t columns) = nullptr;
};

template <typename From, typename To>
Inner innerOf() {
  Inner inner;
  inner.row = copyRow<From, To>;
  if constexpr (std::is_same_v<From, To> || (kIsFloat<From> && kIsFloat<To>)) inner.tile = transposeTile<From, To>;
  return inner;
}

Inner chooseInner(DType from, DType to) {
  if (from == to) {  // bits only
    return bytesOf(to) == 4 ? innerOf<float, float>() : bytesOf(to) == 2 ? innerOf<BFloat16, BFloat16>() : innerOf<Bool, Bool>();
  }
  Inner inner;
  withElement(from, [&](auto f) {
    withElement(to, [&](auto t) {
      if constexpr (!std::is_same_v<decltype(f), decltype(t)>) inner = innerOf<decltype(f), decltype(t)>();
    });
  });
  return inner;
}

// A copy in units of bytes, ready to be cut into tasks.
struct Copy {
  Loops loops;
  Inner inner;
  const char* from;
  char* to;
  int64_t fromBytes, toBytes;

  const void* source(int64_t element) const { return from + element * fromBytes; }
  void* target(int64_t element) const { return to + element * toBytes; }
};

void copyTransposed(const Copy& copy, ThreadPool& pool) {
  // The last two axes are (rows: contiguous in the source; columns: contiguous in the target).
  constexpr int64_t kRows = 64, kColumns = 256;
  const Loops& loops = copy.loops;
  const int axes = loops.rank - 2;
  const int64_t rows = loops.shape[axes], columns = loops.shape[axes + 1];
  const int64_t fromStride = loops.from[axes + 1], toStride = loops.to[axes];
  const int64_t columnTiles = (columns + kColumns - 1) / kColumns;
  const int64_t tiles = (rows + kRows - 1) / kRows * columnTiles;
  const int64_t outer = loops.size() / (rows * columns);
  const int64_t group = kTaskElements / (std::min(rows, kRows) * std::min(columns, kColumns));
  pool.parallelRange(outer * tiles, group, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const Odometer at(loops, axes, task / tiles);
      const int64_t r = task % tiles / columnTiles * kRows, c = task % columnTiles * kColumns;
      copy.inner.tile(copy.source(at.from + c * fromStride + r), fromStride, copy.target(at.to + r * toStride + c), toStride,
                      std::min(kRows, rows - r), std::min(kColumns, columns - c));
    }
  });
}

void copyRows(const Copy& copy, ThreadPool& pool) {
  const Loops& loops = copy.loops;
  const int last = loops.rank - 1;
  const int64_t n = loops.shape[last], fromStride = loops.from[last], toStride = loops.to[last];
  const int64_t rows = loops.size() / n;
  if (n > kTaskElements) {
    const int64_t pieces = (n + kTaskElements - 1) / kTaskElements;
    pool.parallelFor(rows * pieces, [&](int64_t task) {
      const Odometer at(loops, last, task / pieces);
      const int64_t begin = task % pieces * kTaskElements;
      copy.inner.row(copy.source(at.from + begin * fromStride), fromStride, copy.target(at.to + begin * toStride), toStride,
                     std::min(kTaskElements, n - begin));
    });
    return;
  }
  pool.parallelRange(rows, kTaskElements / n, [&](int64_t begin, int64_t end) {
    Odometer at(loops, last, begin);
    for (int64_t row = begin; row < end; row++, at.next()) {
      copy.inner.row(copy.source(at.from), fromStride, copy.target(at.to), toStride, n);
    }
  });
}

void copyKernel(const KernelArgs& args) {
  require(args.nIn == 1 && args.nOut == 1, "copy: expected one input and one output");
  copyStrided(args.in[0], args.out[0], args.pool);
}

}  // namespace

void copyStrided(const Tensor& from, const Tensor& to, ThreadPool& pool) {
  require(from.rank == to.rank, "copy: expected input and output of equal rank");
  for (int i = 0; i < to.rank; i++) require(from.shape[i] == to.shape[i], "copy: expected input and output of equal shape");
  if (to.size() == 0) return;
  Copy copy{planLoops(from, to), chooseInner(from.dtype, to.dtype), from.as<const char>(), to.as<char>(),
            bytesOf(from.dtype), bytesOf(to.dtype)};
  const bool transposed = arrangeTransposed(copy.loops);
  if (transposed && copy.inner.tile != nullptr) return copyTransposed(copy, pool);
  copyRows(copy, pool);
}

PLINTH_KERNEL("copy", copyKernel);

}  // namespace plinth
