// Convolutions of one input channel per group (depthwise), directly: a channel is copied with its padding and with the
// places that a stride skips sorted apart, so that the neighbours of an output are vectors in memory.
#pragma once

#include <vector>

#include "kernels/conv.h"

namespace plinth::conv {

// Few outputs per group: with many, products are faster.
inline bool isDepthwise(const Geometry& g) { return g.Cg == 1 && g.Og <= 2 && g.T > 1; }

// One channel, padded: rows[d][h][phase][place], where place p of phase f is column p * stride[2] + f.
struct Plane {
  const Geometry& g;
  int64_t extent[3], length, row;  // places per phase (with room for a vector's tail), floats per line
  std::vector<float> data;
  std::vector<int64_t> taps;  // where each tap lies, from the first

  explicit Plane(const Geometry& geometry) : g(geometry) {
    for (int i = 0; i < 3; i++) extent[i] = (g.out[i] - 1) * g.stride[i] + (g.kernel[i] - 1) * g.dilation[i] + 1;
    length = (extent[2] + g.stride[2] - 1) / g.stride[2] + simd::kLanes;
    row = length * g.stride[2];
    data.assign(static_cast<size_t>(extent[0] * extent[1] * row), 0.0f);
    for (int64_t d = 0; d < g.kernel[0]; d++) {
      for (int64_t h = 0; h < g.kernel[1]; h++) {
        for (int64_t w = 0; w < g.kernel[2]; w++) {
          const int64_t column = w * g.dilation[2];
          taps.push_back((d * g.dilation[0] * extent[1] + h * g.dilation[1]) * row + column % g.stride[2] * length +
                         column / g.stride[2]);
        }
      }
    }
  }

  // Calls fn(first place of a line's content in `data` by phase and place, index in the channel, columns from, to).
  template <typename Fn>
  void forEachLine(Fn&& fn) {
    for (int64_t z = 0; z < g.size[0]; z++) {
      for (int64_t y = 0; y < g.size[1]; y++) {
        const int64_t d = z + g.low[0], h = y + g.low[1];
        if (d < 0 || d >= extent[0] || h < 0 || h >= extent[1]) continue;
        fn(data.data() + (d * extent[1] + h) * row, (z * g.size[1] + y) * g.size[2]);
      }
    }
  }
  int64_t columns() const { return std::min(g.size[2], extent[2] - g.low[2]); }
  int64_t place(int64_t x) const { return (x + g.low[2]) % g.stride[2] * length + (x + g.low[2]) / g.stride[2]; }

  // The padding is written once, by the constructor.
  template <typename T>
  void load(const T* channel) {
    forEachLine([&](float* line, int64_t at) {
      for (int64_t x = 0; x < columns(); x++) line[g.stride[2] == 1 ? x + g.low[2] : place(x)] = toFloat(channel[at + x]);
    });
  }
  void clear() { std::fill(data.begin(), data.end(), 0.0f); }
  void store(float* channel) {
    std::fill(channel, channel + g.S, 0.0f);
    forEachLine([&](float* line, int64_t at) {
      for (int64_t x = 0; x < columns(); x++) channel[at + x] = line[place(x)];
    });
  }

  // Calls fn(where the first tap of the output line lies, index of the line in the output).
  template <typename Fn>
  void forEachOutputLine(Fn&& fn) {
    for (int64_t d = 0; d < g.out[0]; d++) {
      for (int64_t h = 0; h < g.out[1]; h++) {
        fn(data.data() + (d * g.stride[0] * extent[1] + h * g.stride[1]) * row, (d * g.out[1] + h) * g.out[2]);
      }
    }
  }
};

// The plane of the thread, made anew only by tasks that have none yet.
template <typename Fn>
void withPlanes(const Geometry& g, ThreadPool& pool, int64_t count, Fn&& fn) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, g.P * g.T / 8));
  pool.parallelRange(count, grain, [&](int64_t begin, int64_t end) {
    Plane plane(g);
    for (int64_t i = begin; i < end; i++) fn(i, plane);
  });
}

template <typename X, typename W>
void depthwiseForward(const Geometry& g, const X* x, const W* w, float* y, ThreadPool& pool) {
  using namespace simd;
  constexpr int kWide = 4;
  withPlanes(g, pool, g.N * g.C, [&](int64_t i, Plane& plane) {
    plane.load(x + i * g.S);
    for (int64_t m = 0; m < g.Og; m++) {
      const int64_t o = i % g.C * g.Og + m;
      const W* weight = w + o * g.T;
      float* out = y + (i / g.C * g.O + o) * g.P;
      plane.forEachOutputLine([&](const float* line, int64_t at) {
        int64_t p = 0;
        for (; p + kWide * kLanes <= g.out[2]; p += kWide * kLanes) {
          F32 sum[kWide] = {zero(), zero(), zero(), zero()};
          for (int64_t t = 0; t < g.T; t++) {
            const F32 tap = splat(toFloat(weight[t]));
            const float* from = line + plane.taps[static_cast<size_t>(t)] + p;
            for (int v = 0; v < kWide; v++) sum[v] = fma(tap, simd::load(from + v * kLanes), sum[v]);
          }
          for (int v = 0; v < kWide; v++) simd::store(out + at + p + v * kLanes, sum[v]);
        }
        for (; p < g.out[2]; p += kLanes) {
          F32 sum = zero();
          for (int64_t t = 0; t < g.T; t++) {
            sum = fma(splat(toFloat(weight[t])), simd::load(line + plane.taps[static_cast<size_t>(t)] + p), sum);
          }
          storeUpTo(out + at + p, sum, static_cast<int>(std::min<int64_t>(kLanes, g.out[2] - p)));
        }
      });
    }
  });
}

template <typename Y, typename W>
void depthwiseInputGrad(const Geometry& g, const Y* dy, const W* w, float* dx, ThreadPool& pool) {
  using namespace simd;
  withPlanes(g, pool, g.N * g.C, [&](int64_t i, Plane& plane) {
    plane.clear();
    for (int64_t m = 0; m < g.Og; m++) {
      const int64_t o = i % g.C * g.Og + m;
      const W* weight = w + o * g.T;
      const Y* gradient = dy + (i / g.C * g.O + o) * g.P;
      plane.forEachOutputLine([&](float* line, int64_t at) {
        for (int64_t t = 0; t < g.T; t++) {
          const F32 tap = splat(toFloat(weight[t]));
          float* to = line + plane.taps[static_cast<size_t>(t)];
          for (int64_t p = 0; p < g.out[2]; p += kLanes) {
            const int lanes = static_cast<int>(std::min<int64_t>(kLanes, g.out[2] - p));
            storeUpTo(to + p, fma(tap, loadVectorUpTo(gradient + at + p, lanes), loadUpTo(to + p, lanes)), lanes);
          }
        }
      });
    }
    plane.store(dx + i * g.S);
  });
}

template <typename X, typename Y>
void depthwiseWeightGrad(const Geometry& g, const X* x, const Y* dy, float* dw, ThreadPool& pool) {
  using namespace simd;
  std::fill(dw, dw + g.O * g.T, 0.0f);
  pool.parallelFor(g.C, [&](int64_t c) {
    Plane plane(g);
    std::vector<float> sums(static_cast<size_t>(g.T * kLanes));
    for (int64_t n = 0; n < g.N; n++) {
      plane.load(x + (n * g.C + c) * g.S);
      for (int64_t m = 0; m < g.Og; m++) {
        const int64_t o = c * g.Og + m;
        const Y* gradient = dy + (n * g.O + o) * g.P;
        std::fill(sums.begin(), sums.end(), 0.0f);
        plane.forEachOutputLine([&](const float* line, int64_t at) {
          for (int64_t t = 0; t < g.T; t++) {
            const float* from = line + plane.taps[static_cast<size_t>(t)];
            F32 sum = simd::load(sums.data() + t * kLanes);
            for (int64_t p = 0; p < g.out[2]; p += kLanes) {
              const int lanes = static_cast<int>(std::min<int64_t>(kLanes, g.out[2] - p));
              sum = fma(loadVectorUpTo(gradient + at + p, lanes), loadUpTo(from + p, lanes), sum);
            }
            simd::store(sums.data() + t * kLanes, sum);
          }
        });
        for (int64_t t = 0; t < g.T; t++) dw[o * g.T + t] += reduceAdd(simd::load(sums.data() + t * kLanes));
      }
    }
  });
}

}  // namespace plinth::conv
