// AdamW in one pass over the parameters, and the sum of squares for the global gradient norm. Contracts: KERNELS.md
// ("adamw", "sum_squares").
#include <algorithm>
#include <cmath>

#include "../kernel.h"
#include "runs.h"

namespace plinth {
namespace {

using namespace simd;

void adamw(const KernelArgs& args) {
  require(args.nIn == 8 && args.nOut == 3 && args.nFloats == 4,
          "adamw: expected param, grad, m, v, lr, gradScale, biasCorrection1, biasCorrection2 and four constants");
  for (int i = 0; i < 8; i++) require(args.in[i].dtype == DType::Float32, "adamw: expected float32");
  const int64_t n = args.in[0].size();
  const float *param = args.in[0].as<float>(), *grad = args.in[1].as<float>();
  const float *m = args.in[2].as<float>(), *v = args.in[3].as<float>();
  float *newParam = args.out[0].as<float>(), *newM = args.out[1].as<float>(), *newV = args.out[2].as<float>();
  const double lr = *args.in[4].as<float>(), correction1 = *args.in[6].as<float>(), correction2 = *args.in[7].as<float>();
  const double beta1 = args.floats[0], beta2 = args.floats[1], eps = args.floats[2], weightDecay = args.floats[3];
  const F32 gradScale = splat(*args.in[5].as<float>());
  const F32 keep = splat(static_cast<float>(1.0 - lr * weightDecay));
  const F32 b1 = splat(static_cast<float>(beta1)), c1 = splat(static_cast<float>(1.0 - beta1));
  const F32 b2 = splat(static_cast<float>(beta2)), c2 = splat(static_cast<float>(1.0 - beta2));
  const F32 step = splat(static_cast<float>(lr / correction1));
  const F32 rootScale = splat(static_cast<float>(1.0 / std::sqrt(correction2)));
  const F32 epsilon = splat(static_cast<float>(eps));
  args.pool.parallelRange(n, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, end - i));
      const F32 g = loadUpTo(grad + i, lanes) * gradScale;
      const F32 first = fma(b1, loadUpTo(m + i, lanes), c1 * g);
      const F32 second = fma(b2, loadUpTo(v + i, lanes), c2 * (g * g));
      const F32 root = fma(simd::sqrt(second), rootScale, epsilon);
      storeUpTo(newM + i, first, lanes);
      storeUpTo(newV + i, second, lanes);
      storeUpTo(newParam + i, fnma(step, first / root, keep * loadUpTo(param + i, lanes)), lanes);
    }
  });
}

// Elements of one partial sum: part of the result's bits.
constexpr int64_t kChunk = 32 * 1024;
constexpr int64_t kRun = 1024;

void sumSquares(const KernelArgs& args) {
  require(args.nOut == 1 && args.out[0].size() == args.nIn, "sum_squares: expected one output with an element per input");
  int64_t chunks = 0;
  for (int i = 0; i < args.nIn; i++) {
    require(args.in[i].dtype == DType::Float32, "sum_squares: expected float32");
    chunks += (args.in[i].size() + kChunk - 1) / kChunk;
  }
  struct Piece {
    const float* x;
    int64_t n;
    int tensor;
    double sum;
  };
  auto* pieces = static_cast<Piece*>(ThreadPool::scratch(std::max<int64_t>(chunks, 1) * static_cast<int64_t>(sizeof(Piece)), 3));
  int64_t next = 0;
  for (int i = 0; i < args.nIn; i++) {
    const int64_t n = args.in[i].size();
    for (int64_t at = 0; at < n; at += kChunk) pieces[next++] = {args.in[i].as<float>() + at, std::min(kChunk, n - at), i, 0.0};
  }
  args.pool.parallelFor(chunks, [&](int64_t task) {
    Piece& piece = pieces[task];
    for (int64_t at = 0; at < piece.n; at += kRun) {
      const float* x = piece.x + at;
      piece.sum += sumRunOf(std::min(kRun, piece.n - at), [x](int64_t i, int lanes) {
        const F32 v = loadUpTo(x + i, lanes);
        return v * v;
      });
    }
  });
  float* out = args.out[0].as<float>();
  int64_t at = 0;
  for (int i = 0; i < args.nIn; i++) {
    double total = 0;
    for (; at < chunks && pieces[at].tensor == i; at++) total += pieces[at].sum;
    out[i] = static_cast<float>(total);
  }
}

PLINTH_KERNEL("adamw", adamw);
PLINTH_KERNEL("sum_squares", sumSquares);

}  // namespace
}  // namespace plinth
