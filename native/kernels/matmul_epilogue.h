// What happens to a finished product before it is stored: bytecode over the rows of its tiles.
#pragma once

#include <vector>

#include "kernels/fused_machine.h"

namespace plinth::matmul {

// The epilogue of one call of the kernel `matmul` (KERNELS.md); a narrow output without one gets one that only stores.
class Epilogue {
 public:
  explicit Epilogue(const KernelArgs& call) : args_(call) {
    static constexpr int64_t kStoreOnly[] = {1, 0, 2, static_cast<int64_t>(Opcode::op_load), 0, 0, 0, 0,
                                             static_cast<int64_t>(Opcode::op_store), 0, 0, 0, 0};
    const bool given = call.nInts > 1;
    isNeeded_ = given || call.out[0].dtype != DType::Float32;
    if (!isNeeded_) return;
    require(!given || call.nInts >= 4, "matmul: expected [operands, nRegisters, 0, nInstructions, ...]");
    // The product itself comes first; it lies in tiles, so that only its shape is known here.
    inputs_.push_back(call.out[0]);
    inputs_[0].dtype = DType::Float32;
    inputs_[0].data = nullptr;
    inputs_.insert(inputs_.end(), call.in + 2, call.in + call.nIn);
    args_.in = inputs_.data();
    args_.nIn = static_cast<int>(inputs_.size());
    args_.ints = given ? call.ints + 1 : kStoreOnly;
    args_.nInts = given ? call.nInts - 1 : static_cast<int>(std::size(kStoreOnly));
    require(args_.ints[1] == 0, "matmul: expected an epilogue that does not reduce");
    plan_ = bytecode::makePlan(args_, call.out[0].size() == 0, 0);
    nSlots_ = bytecode::assignBuffers(plan_);
  }
  Epilogue(const Epilogue&) = delete;
  Epilogue& operator=(const Epilogue&) = delete;

  bool isNeeded() const { return isNeeded_; }

  // Elements [begin, begin + n) of the row-major product, on the calling thread, in the scratch `slot`.
  class Runner {
   public:
    Runner(const Epilogue& epilogue, int slot) : machine_(epilogue.args_, epilogue.plan_, epilogue.nSlots_, slot) {}

    void run(int64_t begin, int64_t n, const float* product) {
      for (int64_t at = 0; at < n; at += bytecode::kBlock) {
        machine_.block(begin + at, std::min(bytecode::kBlock, n - at), [](int, Opcode, const float*) {}, product + at);
      }
    }

   private:
    bytecode::Machine machine_;
  };

 private:
  KernelArgs args_;
  bool isNeeded_ = false;
  std::vector<Tensor> inputs_;
  bytecode::Plan plan_;
  int nSlots_ = 0;
};

}  // namespace plinth::matmul
