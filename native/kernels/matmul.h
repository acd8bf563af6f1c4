// One matrix product and the ways to compute it. All ways give the same bits (matmul_tile.h says which).
#pragma once

#include "kernels/matmul_epilogue.h"
#include "kernels/matmul_pack.h"
#include "kernels/matmul_tile.h"
#include "thread_pool.h"

namespace plinth::matmul {

// c[M, N] = a x b; `a` has M lines and `b` has N lines of K terms. With an epilogue the result goes through that instead:
// row i, column j is its element `first` + i * strideC + j.
struct Product {
  int64_t M, N, K;
  Operand a, b;
  float* c;
  int64_t strideC;
  const Epilogue* epilogue = nullptr;
  int64_t first = 0;

  // Operands rounded to bfloat16 are multiplied as Bf16Terms, all others as FloatTerms.
  bool isBf16() const { return a.rounded && b.rounded; }
};

// The product by whichever way is fastest for its shape, on all threads of the pool (inside a task: on the calling thread
// alone). Other kernels build on it (conv.cc). Slot 3 of the threads' scratch is left to the caller.
void multiply(const Product& p, ThreadPool& pool);

// Up to kFewRows rows: b is read once, straight from where it lies. Needs b contiguous along N or along K.
constexpr int64_t kFewRows = 4;
void multiplyFewRows(const Product& p, ThreadPool& pool);

// Scratch slots of multiply.
enum Scratch { kInnerSlot = 0, kRowsSlot = 1, kOuterSlot = 2, kEpilogueSlot = 4, kSumsSlot = 5 };

}  // namespace plinth::matmul
