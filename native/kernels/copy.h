// Copies between strided windows with conversion: the base of copy, concat and pad.
#pragma once

#include "kernel.h"

namespace plinth {

// to[i...] = convert(from[i...]) over to's shape; both through their strides.
void copyStrided(const Tensor& from, const Tensor& to, ThreadPool& pool);

}  // namespace plinth
