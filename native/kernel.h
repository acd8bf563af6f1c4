// What a kernel is, and the registry that makes adding one mean adding one file to native/kernels/.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "tensor.h"
#include "thread_pool.h"

namespace plinth {

// Contracts of all kernels: native/KERNELS.md. Everything but the data pointers is fixed when the program is made.
struct KernelArgs {
  const Tensor* in;
  int nIn;
  Tensor* out;
  int nOut;
  const int64_t* ints;
  int nInts;
  const double* floats;
  int nFloats;
  void* workspace;  // 64-byte aligned, shared by all threads, not cleared
  int64_t workspaceBytes;
  ThreadPool& pool;
};

// Runs one instruction. Throws std::runtime_error on arguments it cannot accept.
using Kernel = void (*)(const KernelArgs&);

// Entries of the registry: a list that grows while the addon loads.
struct KernelRegistration {
  KernelRegistration(const char* name, Kernel kernel) : name(name), kernel(kernel), next(first) { first = this; }

  const char* name;
  Kernel kernel;
  const KernelRegistration* next;
  static const KernelRegistration* first;
};

// The kernel of this name, or nullptr.
Kernel findKernel(const std::string& name);

// At namespace scope: PLINTH_KERNEL("layer_norm", layerNorm);
#define PLINTH_KERNEL_CONCAT_(a, b) a##b
#define PLINTH_KERNEL_CONCAT(a, b) PLINTH_KERNEL_CONCAT_(a, b)
#define PLINTH_KERNEL(name, kernel) \
  static const ::plinth::KernelRegistration PLINTH_KERNEL_CONCAT(kernelRegistration, __COUNTER__)(name, kernel)

// For argument checks in kernels: require(a.rank == 2, "matmul: expected ...").
inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::runtime_error(message);
}
inline void require(bool condition, const char* message) {
  if (!condition) throw std::runtime_error(message);
}

}  // namespace plinth
