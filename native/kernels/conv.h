// Geometry of a convolution, and its columns: the matrix [C/groups * taps, pixels] that turns it into products
// (Chellapilla et al. 2006). Columns are made in tiles, on the way into the product; the whole matrix never exists.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernel.h"
#include "kernels/element.h"

namespace plinth::conv {

// One to three spatial axes, held as three (size 1 in front). y[n, o, p] = sum over c, t of w[o, c, t] x[n, c, p at tap t].
struct Geometry {
  int64_t N, C, O, groups, Cg, Og;
  int64_t size[3] = {1, 1, 1}, kernel[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1}, low[3] = {0, 0, 0}, dilation[3] = {1, 1, 1};
  int64_t S, T, P;  // points of the input, taps, points of the output

  // ints: [operands, groups, axes, stride per axis, low padding per axis, dilation per axis].
  Geometry(const KernelArgs& args, const Tensor& x, const Tensor& w, const Tensor& y) {
    require(args.nInts >= 3 && args.ints[2] >= 1 && args.ints[2] <= 3, "conv: expected one to three spatial axes");
    const int axes = static_cast<int>(args.ints[2]), skip = 3 - axes;
    require(args.nInts == 3 + 3 * axes && x.rank == axes + 2 && w.rank == axes + 2 && y.rank == axes + 2,
            "conv: expected x[N, C, ...], weight[O, C / groups, ...] and y[N, O, ...]");
    N = x.shape[0], C = x.shape[1], O = w.shape[0], Cg = w.shape[1], groups = args.ints[1];
    require(groups >= 1 && C == Cg * groups && O % groups == 0 && y.shape[0] == N && y.shape[1] == O,
            "conv: expected groups that divide the channels");
    Og = O / groups;
    for (int i = 0; i < axes; i++) {
      size[skip + i] = x.shape[2 + i], kernel[skip + i] = w.shape[2 + i], out[skip + i] = y.shape[2 + i];
      stride[skip + i] = args.ints[3 + i], low[skip + i] = args.ints[3 + axes + i];
      dilation[skip + i] = args.ints[3 + 2 * axes + i];
      require(stride[skip + i] >= 1 && dilation[skip + i] >= 1, "conv: expected positive strides and dilations");
      require(stride[skip + i] <= 65536 && dilation[skip + i] <= 65536 && low[skip + i] >= 0 && low[skip + i] < (1 << 30),
              "conv: expected strides and dilations of at most 65536, padding of 0 or more");
    }
    S = size[0] * size[1] * size[2], T = kernel[0] * kernel[1] * kernel[2], P = out[0] * out[1] * out[2];
  }

  // The columns are the input itself.
  bool isPointwise() const {
    return T == 1 && std::equal(size, size + 3, out) && std::count(stride, stride + 3, 1) == 3 &&
           std::count(low, low + 3, 0) == 3;
  }
  // Taps are long runs in memory and pixels lie far apart: columns are laid out [pixels][C/groups * taps].
  bool isPatches() const { return dilation[2] == 1 && stride[2] >= 4 && kernel[2] >= 4; }
  // A tap's row of the columns is the image shifted, but for its edges.
  bool isShifted() const {
    return std::count(stride, stride + 3, 1) == 3 && out[1] == size[1] && out[2] == size[2];
  }
};

// Reads or adds `n` values a step apart. The columns' side is contiguous.
template <typename T>
inline void copyRun(const T* from, int64_t step, T* to, int64_t n) {
  if (step != 1) {
    for (int64_t i = 0; i < n; i++) to[i] = from[i * step];
  } else if constexpr (std::is_same_v<T, float>) {
    for (int64_t i = 0; i < n; i += simd::kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(simd::kLanes, n - i));
      simd::storeUpTo(to + i, simd::loadUpTo(from + i, lanes), lanes);
    }
  } else {
    std::copy(from, from + n, to);
  }
}
inline void addRun(const float* from, float* to, int64_t step, int64_t n) {
  if (step != 1) {
    for (int64_t i = 0; i < n; i++) to[i * step] += from[i];
    return;
  }
  for (int64_t i = 0; i < n; i += simd::kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(simd::kLanes, n - i));
    simd::storeUpTo(to + i, simd::loadUpTo(to + i, lanes) + simd::loadUpTo(from + i, lanes), lanes);
  }
}

// The part of a run of `n` places, `step` apart and starting at `first`, that lies in [0, size).
struct Inside {
  int64_t from, to;
  Inside(int64_t first, int64_t step, int64_t n, int64_t size) {
    from = std::min(n, first >= 0 ? 0 : (-first + step - 1) / step);
    to = first >= size ? from : std::max(from, std::min(n, (size - 1 - first) / step + 1));
  }
};

// Calls run(column, n, image) for the runs of tap `t` over pixels [p0, p1): columns `column`.. + n hold the image from
// index `image` on, stride[2] apart; image < 0 means zeros (outside).
template <typename Run>
void forEachRun(const Geometry& g, int64_t t, int64_t p0, int64_t p1, Run&& run) {
  const int64_t at[3] = {t / (g.kernel[1] * g.kernel[2]), t / g.kernel[2] % g.kernel[1], t % g.kernel[2]};
  int64_t shift[3];
  for (int i = 0; i < 3; i++) shift[i] = at[i] * g.dilation[i] - g.low[i];
  int64_t w = p0 % g.out[2], h = p0 / g.out[2] % g.out[1], d = p0 / (g.out[2] * g.out[1]);
  for (int64_t p = p0; p < p1;) {
    const int64_t n = std::min(g.out[2] - w, p1 - p), column = p - p0;
    const int64_t z = d * g.stride[0] + shift[0], y = h * g.stride[1] + shift[1];
    if (z < 0 || z >= g.size[0] || y < 0 || y >= g.size[1]) {
      run(column, n, int64_t{-1});
    } else {
      const int64_t first = w * g.stride[2] + shift[2];
      const Inside in(first, g.stride[2], n, g.size[2]);
      if (in.from > 0) run(column, in.from, int64_t{-1});
      if (in.to > in.from) {
        run(column + in.from, in.to - in.from, (z * g.size[1] + y) * g.size[2] + first + in.from * g.stride[2]);
      }
      if (in.to < n) run(column + in.to, n - in.to, int64_t{-1});
    }
    p += n;
    w = 0;
    if (++h == g.out[1]) h = 0, d++;
  }
}

// For shifted taps: within one plane, pixels [from, to) of [q0, q1) read the image `offset` further on; the columns of
// `edge` (ascending, [edgeFrom, edgeTo) of each row) read nothing.
struct Shift {
  int64_t offset, from, to, edgeFrom, edgeTo;
  Shift(const Geometry& g, int64_t th, int64_t tw, int64_t q0, int64_t q1) {
    const int64_t dy = th * g.dilation[1] - g.low[1], dx = tw * g.dilation[2] - g.low[2];
    offset = dy * g.size[2] + dx;
    from = std::clamp(-offset, q0, q1);
    to = std::clamp(g.size[1] * g.size[2] - offset, from, q1);
    edgeFrom = dx < 0 ? 0 : std::max<int64_t>(0, g.size[2] - dx);
    edgeTo = dx < 0 ? std::min(-dx, g.size[2]) : g.size[2];
  }
  // Zeros at the edges of a row of columns that begins at pixel q0.
  template <typename T>
  void clearEdges(T* row, int64_t q0, int64_t q1, int64_t width) const {
    for (int64_t line = q0 / width * width; line < q1 && edgeFrom < edgeTo; line += width) {
      const int64_t a = std::max(q0, line + edgeFrom), b = std::min(q1, line + edgeTo);
      for (int64_t q = a; q < b; q++) row[q - q0] = T{};
    }
  }
};

// Calls fn(column, z-plane of the image or -1, q0, q1) for the planes that pixels [p0, p1) touch.
template <typename Fn>
void forEachPlane(const Geometry& g, int64_t td, int64_t p0, int64_t p1, Fn&& fn) {
  const int64_t plane = g.out[1] * g.out[2];
  for (int64_t p = p0; p < p1;) {
    const int64_t d = p / plane, q0 = p % plane, q1 = std::min(plane, q0 + p1 - p);
    const int64_t z = d + td * g.dilation[0] - g.low[0];
    fn(p - p0, z < 0 || z >= g.size[0] ? -1 : z, q0, q1);
    p += q1 - q0;
  }
}

// Rows [k0, k1) of the columns of pixels [p0, p1): to[(k - k0) * stride + p - p0]. `image` is the first channel's.
template <typename T>
void fillRows(const Geometry& g, const T* image, int64_t k0, int64_t k1, int64_t p0, int64_t p1, T* to, int64_t stride) {
  const bool shifted = g.isShifted();
  for (int64_t k = k0; k < k1; k++, to += stride) {
    const int64_t t = k % g.T;
    const T* channel = image + k / g.T * g.S;
    if (shifted) {
      forEachPlane(g, t / (g.kernel[1] * g.kernel[2]), p0, p1, [&](int64_t column, int64_t z, int64_t q0, int64_t q1) {
        T* row = to + column;
        if (z < 0) return std::fill(row, row + (q1 - q0), T{});
        const Shift s(g, t / g.kernel[2] % g.kernel[1], t % g.kernel[2], q0, q1);
        std::fill(row, row + (s.from - q0), T{});
        copyRun(channel + z * g.size[1] * g.size[2] + s.from + s.offset, 1, row + (s.from - q0), s.to - s.from);
        std::fill(row + (s.to - q0), row + (q1 - q0), T{});
        s.clearEdges(row, q0, q1, g.out[2]);
      });
    } else {
      forEachRun(g, t, p0, p1, [&](int64_t column, int64_t n, int64_t at) {
        if (at < 0) std::fill(to + column, to + column + n, T{});
        else copyRun(channel + at, g.stride[2], to + column, n);
      });
    }
  }
}

// Adds rows of columns back to where they came from. Overwrites the columns.
inline void addRows(const Geometry& g, float* image, int64_t k0, int64_t k1, int64_t p0, int64_t p1, float* from,
                    int64_t stride) {
  const bool shifted = g.isShifted();
  for (int64_t k = k0; k < k1; k++, from += stride) {
    const int64_t t = k % g.T;
    float* channel = image + k / g.T * g.S;
    if (shifted) {
      forEachPlane(g, t / (g.kernel[1] * g.kernel[2]), p0, p1, [&](int64_t column, int64_t z, int64_t q0, int64_t q1) {
        if (z < 0) return;
        float* row = from + column;
        const Shift s(g, t / g.kernel[2] % g.kernel[1], t % g.kernel[2], q0, q1);
        s.clearEdges(row, q0, q1, g.out[2]);
        addRun(row + (s.from - q0), channel + z * g.size[1] * g.size[2] + s.from + s.offset, 1, s.to - s.from);
      });
    } else {
      forEachRun(g, t, p0, p1, [&](int64_t column, int64_t n, int64_t at) {
        if (at >= 0) addRun(from + column, channel + at, g.stride[2], n);
      });
    }
  }
}

// Calls run(k, n, image) for the runs of taps that pixel p sees in `channels` channels: columns k.. + n of its line.
template <typename Run>
void forEachPatchRun(const Geometry& g, int64_t channels, int64_t p, Run&& run) {
  const int64_t at[3] = {p / (g.out[1] * g.out[2]), p / g.out[2] % g.out[1], p % g.out[2]};
  const int64_t first = at[2] * g.stride[2] - g.low[2];
  const Inside in(first, 1, g.kernel[2], g.size[2]);
  int64_t k = 0;
  for (int64_t c = 0; c < channels; c++) {
    for (int64_t td = 0; td < g.kernel[0]; td++) {
      const int64_t z = at[0] * g.stride[0] - g.low[0] + td * g.dilation[0];
      for (int64_t th = 0; th < g.kernel[1]; th++, k += g.kernel[2]) {
        const int64_t y = at[1] * g.stride[1] - g.low[1] + th * g.dilation[1];
        const bool inside = z >= 0 && z < g.size[0] && y >= 0 && y < g.size[1];
        if (!inside || in.from == in.to) {
          run(k, g.kernel[2], int64_t{-1});
          continue;
        }
        if (in.from > 0) run(k, in.from, int64_t{-1});
        run(k + in.from, in.to - in.from, ((c * g.size[0] + z) * g.size[1] + y) * g.size[2] + first + in.from);
        if (in.to < g.kernel[2]) run(k + in.to, g.kernel[2] - in.to, int64_t{-1});
      }
    }
  }
}

}  // namespace plinth::conv
