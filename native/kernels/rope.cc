// Rotary position embedding (Su et al. 2021) and its inverse. Contract: KERNELS.md ("rope").
#include <algorithm>

#include "../kernel.h"
#include "../simd_math.h"
#include "element.h"

namespace plinth {
namespace {

using namespace simd;

struct Rotation {
  const float *cosine, *sine;
  int64_t half;
};

// Pairs (i, i + K/2).
template <typename X, typename Y>
void rotateHalves(const X* x, int64_t stride, Y* y, const Rotation& r) {
  int64_t i = 0;
  if (stride == 1) {
    for (; i < r.half; i += kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, r.half - i));
      const F32 a = loadVectorUpTo(x + i, lanes), b = loadVectorUpTo(x + r.half + i, lanes);
      const F32 c = loadUpTo(r.cosine + i, lanes), s = loadUpTo(r.sine + i, lanes);
      storeVectorUpTo(y + i, a * c - b * s, lanes);
      storeVectorUpTo(y + r.half + i, b * c + a * s, lanes);
    }
    return;
  }
  for (; i < r.half; i++) {
    const float a = toFloat(x[i * stride]), b = toFloat(x[(i + r.half) * stride]);
    y[i] = convert<Y>(a * r.cosine[i] - b * r.sine[i]);
    y[i + r.half] = convert<Y>(b * r.cosine[i] + a * r.sine[i]);
  }
}

// Pairs (2i, 2i + 1).
template <typename X, typename Y>
void rotateNeighbours(const X* x, int64_t stride, Y* y, const Rotation& r) {
  for (int64_t i = 0; i < r.half; i++) {
    const float a = toFloat(x[2 * i * stride]), b = toFloat(x[(2 * i + 1) * stride]);
    y[2 * i] = convert<Y>(a * r.cosine[i] - b * r.sine[i]);
    y[2 * i + 1] = convert<Y>(b * r.cosine[i] + a * r.sine[i]);
  }
}

template <typename X, typename Y>
void rotate(const KernelArgs& args) {
  const Tensor &x = args.in[0], &positions = args.in[1], &frequencies = args.in[2];
  require(x.rank == 4 && positions.dtype == DType::Int32, "rope: expected x[B,T,H,K] and int32 positions");
  const int64_t batch = x.shape[0], length = x.shape[1], heads = x.shape[2], width = x.shape[3], half = width / 2;
  require(width % 2 == 0 && frequencies.size() == half, "rope: expected an even K and invFreq[K/2]");
  if (x.size() == 0) return;
  const bool inverse = args.ints[0] != 0, interleaved = args.ints[1] != 0;
  const float* frequency = frequencies.as<float>();
  const int64_t grain = std::max<int64_t>(1, 8192 / (heads * width));
  args.pool.parallelRange(batch * length, grain, [&](int64_t begin, int64_t end) {
    auto* cosine = static_cast<float*>(ThreadPool::scratch((half + kLanes) * 8));
    float* sine = cosine + half + kLanes;
    for (int64_t row = begin; row < end; row++) {
      const int64_t b = row / length, t = row % length;
      // Angles in double: at position 1e5 a float32 product would be off by 0.004 radians.
      const double position = positions.as<int32_t>()[row];
      for (int64_t i = 0; i < half; i += kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(kLanes, half - i));
        double angle[kLanes] = {};
        for (int k = 0; k < lanes; k++) angle[k] = position * frequency[i + k];
        F32 s, c;
        sinCos(angle, s, c);
        store(cosine + i, c);
        store(sine + i, inverse ? -s : s);
      }
      const Rotation rotation{cosine, sine, half};
      const X* from = x.as<X>() + b * x.strides[0] + t * x.strides[1];
      Y* to = args.out[0].as<Y>() + row * heads * width;
      for (int64_t h = 0; h < heads; h++) {
        if (interleaved) rotateNeighbours(from + h * x.strides[2], x.strides[3], to + h * width, rotation);
        else rotateHalves(from + h * x.strides[2], x.strides[3], to + h * width, rotation);
      }
    }
  });
}

void rope(const KernelArgs& args) {
  require(args.nIn == 3 && args.nOut == 1 && args.nInts == 2,
          "rope: expected x, positions, invFreq and [inverse, interleaved]");
  withFloat(args.in[0].dtype, "rope: expected a float x", [&](auto x) {
    withFloat(args.out[0].dtype, "rope: expected a float output",
              [&](auto y) { rotate<decltype(x), decltype(y)>(args); });
  });
}

PLINTH_KERNEL("rope", rope);

}  // namespace
}  // namespace plinth
