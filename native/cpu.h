// What the processor offers, and how fast it is when nothing but arithmetic or nothing but reading is asked of it.
#pragma once

#include <string>
#include <vector>

namespace plinth {

// The variant this addon was compiled for: "baseline", "avx2", "avx512", "avx512bf16" or "neon".
const char* compiledIsa();

// Instruction sets usable here (supported by the processor and enabled by the system): "avx2", "fma", ...
std::vector<std::string> cpuFeatures();

// Threads that can run at once: processors of this process's affinity mask, at most the container's quota.
int availableThreads();

// GFLOP/s of float32 multiply-adds on registers (two operations each), the best of many short windows within `seconds`.
double fmaPeak(double seconds, int threads);

// GFLOP/s of products of bfloat16 pairs summed in float32 on registers, likewise; where the variant has no such
// instruction, operands are rounded and multiplied as float32, so the limit is that of fmaPeak.
double bfloat16Peak(double seconds, int threads);

// GB/s of reading memory far larger than the caches, the best pass within `seconds`.
double bandwidth(double seconds, int threads);

}  // namespace plinth
