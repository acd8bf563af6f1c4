// Narrow and rounded operands for the attention kernels, by way of float32 copies.
#pragma once
#include <vector>

#include "../kernel.h"
#include "element.h"

namespace plinth::attention {

/** Calls `fn` with arguments all float32: other floats are copied, operands of products rounded to bfloat16 if so asked. */
template <typename F>
void withFloat32(const KernelArgs& args, int inputs, bool rounded, F&& fn) {
  std::vector<Tensor> in(args.in, args.in + args.nIn), out(args.out, args.out + args.nOut);
  std::vector<std::vector<float>> copies;
  for (int i = 0; i < inputs; i++) {
    const bool operand = i < 3 || i == 5;
    if (in[i].dtype == DType::Float32 && !(rounded && operand)) continue;
    auto& copy = copies.emplace_back(static_cast<size_t>(in[i].size()));
    const Tensor& t = args.in[i];
    int64_t n = 0;
    withElement(t.dtype, [&](auto e) {
      using T = decltype(e);
      if constexpr (kIsFloat<T>) {
        const int64_t* s = t.strides;
        if (copy.empty()) return;
        if (t.rank != 4) {
          for (int64_t j = 0; j < t.size(); j++) copy[static_cast<size_t>(n++)] = toFloat(t.as<T>()[j]);
          return;
        }
        for (int64_t a = 0; a < t.shape[0]; a++)
          for (int64_t b = 0; b < t.shape[1]; b++)
            for (int64_t c = 0; c < t.shape[2]; c++)
              for (int64_t d = 0; d < t.shape[3]; d++) {
                const float x = toFloat(t.as<T>()[a * s[0] + b * s[1] + c * s[2] + d * s[3]]);
                copy[static_cast<size_t>(n++)] = rounded && operand ? toFloat(convert<BFloat16>(x)) : x;
              }
      }
    });
    in[i].data = copy.data();
    in[i].dtype = DType::Float32;
    int64_t stride = 1;
    for (int axis = t.rank - 1; axis >= 0; axis--) {
      in[i].strides[axis] = stride;
      stride *= t.shape[axis];
    }
  }
  std::vector<std::pair<int, std::vector<float>>> results;
  for (int i = 0; i < args.nOut; i++) {
    if (out[i].dtype == DType::Float32) continue;
    results.emplace_back(i, std::vector<float>(static_cast<size_t>(out[i].size())));
    out[i].data = results.back().second.data();
    out[i].dtype = DType::Float32;
  }
  KernelArgs inner{in.data(), args.nIn, out.data(), args.nOut, args.ints, args.nInts, args.floats, args.nFloats,
                   args.workspace, args.workspaceBytes, args.pool};
  fn(inner);
  for (const auto& result : results) {
    const Tensor& to = args.out[result.first];
    const std::vector<float>& data = result.second;
    withElement(to.dtype, [&](auto e) {
      using T = decltype(e);
      for (size_t j = 0; j < data.size(); j++) to.as<T>()[j] = convert<T>(data[j]);
    });
  }
}

}  // namespace plinth::attention
