// One matrix product and the ways to compute it. All ways give the same bits (matmul_tile.h says which).
#pragma once

#include "kernels/matmul_pack.h"
#include "kernels/matmul_tile.h"
#include "thread_pool.h"

namespace plinth::matmul {

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// c[M, N] = a x b; `a` has M lines and `b` has N lines of K terms.
struct Product {
  int64_t M, N, K;
  Operand a, b;
  float* c;
  int64_t strideC;
};

// Up to kFewRows rows: b is read once, straight from where it lies. Needs b contiguous along N or along K.
constexpr int64_t kFewRows = 4;
void multiplyFewRows(const Product& p, ThreadPool& pool);

// The product by whichever way is fastest for its shape, on all threads of the pool (inside a task: on the calling thread
// alone). Other kernels build on it (conv.cc). Uses scratch slots 0 to 2; slot 3 is the caller's.
void multiply(const Product& p, ThreadPool& pool);

// Widths of panels of a and b that hold so many lines.
inline int heightFor(int64_t lines) {
  for (const int height : kHeights) {
    if (height >= lines) return height;
  }
  return kMr;
}
inline int widthFor(int64_t lines) { return lines <= kLanes ? kLanes : kNr; }

}  // namespace plinth::matmul
