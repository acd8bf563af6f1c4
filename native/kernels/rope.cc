// Rotary position embedding (Su et al. 2021) and its inverse. Contract: KERNELS.md ("rope").
#include <algorithm>

#include "../kernel.h"
#include "../simd_math.h"

namespace plinth {
namespace {

using namespace simd;

struct Rotation {
  const float *cosine, *sine;
  int64_t half;
};

// Pairs (i, i + K/2).
void rotateHalves(const float* x, int64_t stride, float* y, const Rotation& r) {
  int64_t i = 0;
  if (stride == 1) {
    for (; i < r.half; i += kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, r.half - i));
      const F32 a = loadUpTo(x + i, lanes), b = loadUpTo(x + r.half + i, lanes);
      const F32 c = loadUpTo(r.cosine + i, lanes), s = loadUpTo(r.sine + i, lanes);
      storeUpTo(y + i, a * c - b * s, lanes);
      storeUpTo(y + r.half + i, b * c + a * s, lanes);
    }
    return;
  }
  for (; i < r.half; i++) {
    const float a = x[i * stride], b = x[(i + r.half) * stride];
    y[i] = a * r.cosine[i] - b * r.sine[i];
    y[i + r.half] = b * r.cosine[i] + a * r.sine[i];
  }
}

// Pairs (2i, 2i + 1).
void rotateNeighbours(const float* x, int64_t stride, float* y, const Rotation& r) {
  for (int64_t i = 0; i < r.half; i++) {
    const float a = x[2 * i * stride], b = x[(2 * i + 1) * stride];
    y[2 * i] = a * r.cosine[i] - b * r.sine[i];
    y[2 * i + 1] = b * r.cosine[i] + a * r.sine[i];
  }
}

void rope(const KernelArgs& args) {
  require(args.nIn == 3 && args.nOut == 1 && args.nInts == 2,
          "rope: expected x, positions, invFreq and [inverse, interleaved]");
  const Tensor &x = args.in[0], &positions = args.in[1], &frequencies = args.in[2];
  require(x.rank == 4 && x.dtype == DType::Float32 && positions.dtype == DType::Int32, "rope: expected float32 x[B,T,H,K]");
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
      const float* from = x.as<float>() + b * x.strides[0] + t * x.strides[1];
      float* to = args.out[0].as<float>() + row * heads * width;
      for (int64_t h = 0; h < heads; h++) {
        if (interleaved) rotateNeighbours(from + h * x.strides[2], x.strides[3], to + h * width, rotation);
        else rotateHalves(from + h * x.strides[2], x.strides[3], to + h * width, rotation);
      }
    }
  });
}

PLINTH_KERNEL("rope", rope);

}  // namespace
}  // namespace plinth
