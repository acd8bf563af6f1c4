// What happens to a finished product before it is stored: bytecode over the rows of its tiles.
#pragma once

#include <vector>

#include "kernels/fused_machine.h"

namespace plinth::matmul {

// The epilogue of one call of the kernel `matmul` (KERNELS.md), or nothing but the rounding to a narrow output.
class Epilogue {
 public:
  explicit Epilogue(const KernelArgs& call) : args_(call) {
    isNarrowing_ = call.nInts <= 1 && call.out[0].dtype != DType::Float32;
    isNeeded_ = call.nInts > 1 || isNarrowing_;
    if (call.nInts <= 1) return;
    require(call.nInts >= 4, "matmul: expected [operands, nRegisters, 0, nInstructions, ...]");
    // The product itself comes first; it lies in tiles, so that only its shape is known here.
    inputs_.push_back(call.out[0]);
    inputs_[0].dtype = DType::Float32;
    inputs_[0].data = nullptr;
    inputs_.insert(inputs_.end(), call.in + 2, call.in + call.nIn);
    args_.in = inputs_.data();
    args_.nIn = static_cast<int>(inputs_.size());
    args_.ints = call.ints + 1;
    args_.nInts = call.nInts - 1;
    require(args_.ints[1] == 0, "matmul: expected an epilogue that does not reduce");
    plan_ = bytecode::makePlan(args_, call.out[0].size() == 0, 0);
    nSlots_ = bytecode::assignBuffers(plan_);
  }
  Epilogue(const Epilogue&) = delete;
  Epilogue& operator=(const Epilogue&) = delete;

  bool isNeeded() const { return isNeeded_; }

  // The output, if all there is to do is to round to bfloat16.
  BFloat16* narrowed() const {
    return isNarrowing_ && args_.out[0].dtype == DType::BFloat16 ? args_.out[0].as<BFloat16>() : nullptr;
  }

  // Rows of `columns` finished sums each, `stride` apart; the first is element `first` of the row-major product, the next row
  // `step` elements on. On the calling thread, in its scratch slot 4.
  void apply(int64_t first, int64_t rows, int64_t columns, int64_t step, const float* sums, int64_t stride) const {
    if (isNarrowing_) {
      for (int64_t i = 0; i < rows; i++) storeBlock(args_.out[0], first + i * step, columns, sums + i * stride, false);
      return;
    }
    bytecode::Machine machine(args_, plan_, nSlots_, 4);
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t at = 0; at < columns; at += bytecode::kBlock) {
        machine.block(first + i * step + at, std::min(bytecode::kBlock, columns - at), [](int, Opcode, const float*) {},
                      sums + i * stride + at);
      }
    }
  }

 private:
  KernelArgs args_;
  bool isNeeded_ = false, isNarrowing_ = false;
  std::vector<Tensor> inputs_;
  bytecode::Plan plan_;
  int nSlots_ = 0;
};

}  // namespace plinth::matmul
