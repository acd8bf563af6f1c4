// Layer norm (Ba et al. 2016) and RMS norm (Zhang & Sennrich 2019) with their gradients. Contracts: KERNELS.md.
#include <algorithm>
#include <cmath>
#include <string>

#include "../kernel.h"
#include "element.h"
#include "runs.h"

namespace plinth {
namespace {

using namespace simd;

// Rows per task, and per partial sum of the weights' gradients (so part of their bits).
int64_t rowsPerChunk(int64_t rows, int64_t width) {
  const int64_t bySize = std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1));
  return std::max(bySize, (rows + 63) / 64);
}

template <typename F>
inline void eachVector(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, static_cast<int>(n - i));
}

// Zero in the lanes beyond n, so that a shifted tail adds nothing to a sum.
inline F32 keep(F32 x, int lanes) {
  return lanes == kLanes ? x : select(greater(splatInt(lanes), iota()), x, zero());
}

// All float32, but y may be narrow: it is rounded as it is stored.
void checkFloat(const char* kernel, const KernelArgs& args, int nIn, int nOut) {
  require(args.nIn == nIn && args.nOut == nOut, std::string(kernel) + ": wrong number of operands");
  for (int i = 0; i < nIn; i++) {
    require(args.in[i].dtype == DType::Float32, std::string(kernel) + ": expected float32");
  }
}

template <typename Y>
void layerNormTo(const KernelArgs& args) {
  const int64_t width = args.in[0].last(0), rows = args.out[1].size();
  const float *x = args.in[0].as<float>(), *weight = args.in[1].as<float>(), *bias = args.in[2].as<float>();
  Y* y = args.out[0].as<Y>();
  float *means = args.out[1].as<float>(), *rstds = args.out[2].as<float>();
  const float eps = static_cast<float>(args.floats[0]);
  const float scale = 1.0f / static_cast<float>(width);
  args.pool.parallelRange(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float* row = x + r * width;
      const float mean = sumRun(row, width) * scale;
      const F32 m = splat(mean);
      const float square = sumRunOf(width, [&](int64_t i, int lanes) {
        const F32 d = keep(loadUpTo(row + i, lanes) - m, lanes);
        return d * d;
      });
      const float rstd = 1.0f / std::sqrt(square * scale + eps);
      means[r] = mean;
      rstds[r] = rstd;
      const F32 s = splat(rstd);
      Y* to = y + r * width;
      eachVector(width, [&](int64_t i, int lanes) {
        const F32 normal = (loadUpTo(row + i, lanes) - m) * s;
        storeVectorUpTo(to + i, fma(normal, loadUpTo(weight + i, lanes), loadUpTo(bias + i, lanes)), lanes);
      });
    }
  });
}

void layerNorm(const KernelArgs& args) {
  checkFloat("layer_norm", args, 3, 3);
  require(args.nFloats == 1, "layer_norm: expected eps");
  withFloat(args.out[0].dtype, "layer_norm: expected a float y", [&](auto type) { layerNormTo<decltype(type)>(args); });
}

template <typename Y>
void rmsNormTo(const KernelArgs& args) {
  const int64_t width = args.in[0].last(0), rows = args.out[1].size();
  const float *x = args.in[0].as<float>(), *weight = args.in[1].as<float>();
  Y* y = args.out[0].as<Y>();
  float* rstds = args.out[1].as<float>();
  const float eps = static_cast<float>(args.floats[0]);
  const float scale = 1.0f / static_cast<float>(width);
  args.pool.parallelRange(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float* row = x + r * width;
      const float square = sumRunOf(width, [&](int64_t i, int lanes) {
        const F32 v = loadUpTo(row + i, lanes);
        return v * v;
      });
      const float rstd = 1.0f / std::sqrt(square * scale + eps);
      rstds[r] = rstd;
      const F32 s = splat(rstd);
      Y* to = y + r * width;
      eachVector(width, [&](int64_t i, int lanes) {
        storeVectorUpTo(to + i, loadUpTo(row + i, lanes) * s * loadUpTo(weight + i, lanes), lanes);
      });
    }
  });
}

void rmsNorm(const KernelArgs& args) {
  checkFloat("rms_norm", args, 2, 2);
  require(args.nFloats == 1, "rms_norm: expected eps");
  withFloat(args.out[0].dtype, "rms_norm: expected a float y", [&](auto type) { rmsNormTo<decltype(type)>(args); });
}

// Joins the chunks' partial sums [chunks][sums][width] in order, in double, to `out[sum]`.
void joinPartials(ThreadPool& pool, const float* partial, int64_t chunks, int sums, int64_t width, float* const* out) {
  pool.parallelRange(width, std::max<int64_t>(16, 16384 / std::max<int64_t>(chunks, 1)), [&](int64_t begin, int64_t end) {
    for (int s = 0; s < sums; s++) {
      for (int64_t i = begin; i < end; i++) {
        double total = 0;
        for (int64_t c = 0; c < chunks; c++) total += partial[(c * sums + s) * width + i];
        out[s][i] = static_cast<float>(total);
      }
    }
  });
}

// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)); dweight = sum dy n; dbias = sum dy.
// Without means (RMS norm) the middle term and dbias fall away.
template <bool centred>
void normGrad(const KernelArgs& args, const float* mean, const float* rstd, const float* dy) {
  const int64_t width = args.in[0].last(0), rows = args.in[0].rows();
  const float *x = args.in[0].as<float>(), *weight = args.in[1].as<float>();
  float* dx = args.out[0].as<float>();
  constexpr int sums = centred ? 2 : 1;
  const int64_t grain = rowsPerChunk(rows, width), chunks = (rows + grain - 1) / grain;
  float* partial = static_cast<float*>(ThreadPool::scratch(std::max<int64_t>(1, chunks * sums * width) * 4, 3));
  const float scale = 1.0f / static_cast<float>(width);
  args.pool.parallelRange(rows, grain, [&](int64_t begin, int64_t end) {
    float* dweight = partial + begin / grain * sums * width;
    float* dbias = dweight + width;
    std::fill_n(dweight, sums * width, 0.0f);
    for (int64_t r = begin; r < end; r++) {
      const float *row = x + r * width, *drow = dy + r * width;
      const F32 s = splat(rstd[r]), m = centred ? splat(mean[r]) : zero();
      F32 sumG = zero(), sumGn = zero();
      eachVector(width, [&](int64_t i, int lanes) {
        const F32 d = loadUpTo(drow + i, lanes);
        const F32 normal = (loadUpTo(row + i, lanes) - m) * s;
        const F32 g = d * loadUpTo(weight + i, lanes);
        storeUpTo(dweight + i, fma(d, normal, loadUpTo(dweight + i, lanes)), lanes);
        if constexpr (centred) {
          storeUpTo(dbias + i, loadUpTo(dbias + i, lanes) + d, lanes);
          sumG = sumG + g;
        }
        sumGn = fma(g, normal, sumGn);
      });
      const F32 meanG = splat(centred ? reduceAdd(sumG) * scale : 0.0f);
      const F32 meanGn = splat(reduceAdd(sumGn) * scale);
      float* to = dx + r * width;
      eachVector(width, [&](int64_t i, int lanes) {
        const F32 normal = (loadUpTo(row + i, lanes) - m) * s;
        F32 g = loadUpTo(drow + i, lanes) * loadUpTo(weight + i, lanes);
        if constexpr (centred) g = g - meanG;
        storeUpTo(to + i, s * fnma(normal, meanGn, g), lanes);
      });
    }
  });
  float* out[2] = {args.out[1].as<float>(), centred ? args.out[2].as<float>() : nullptr};
  joinPartials(args.pool, partial, chunks, sums, width, out);
}

void layerNormGrad(const KernelArgs& args) {
  checkFloat("layer_norm_grad", args, 5, 3);
  normGrad<true>(args, args.in[2].as<float>(), args.in[3].as<float>(), args.in[4].as<float>());
}

void rmsNormGrad(const KernelArgs& args) {
  checkFloat("rms_norm_grad", args, 4, 2);
  normGrad<false>(args, nullptr, args.in[2].as<float>(), args.in[3].as<float>());
}

PLINTH_KERNEL("layer_norm", layerNorm);
PLINTH_KERNEL("layer_norm_grad", layerNormGrad);
PLINTH_KERNEL("rms_norm", rmsNorm);
PLINTH_KERNEL("rms_norm_grad", rmsNormGrad);

}  // namespace
}  // namespace plinth
