// Runs fused bytecode over blocks of elements that stay in the first-level cache, one vector loop per instruction: what the
// kernel "fused" and the epilogues of products share. Contract: KERNELS.md ("Fused bytecode").
#pragma once
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "../kernel.h"
#include "../opcodes.h"
#include "../simd.h"
#include "fused_operand.h"
#include "fused_ops.h"

namespace plinth::bytecode {

// Elements per register block; sums are split at multiples of it, so it is part of the results' bits.
constexpr int64_t kBlock = 1024;
struct Instruction {
  Opcode op;
  int dst;         // buffer written, or -1
  int a, b, c;     // operands: input, constant or output index, or buffers, as the opcode has it
  int directTo;    // output whose memory this instruction writes instead of its buffer, or -1
  bool eliminated; // a store that its producer has done, or a constant set before the loop
};

inline bool isStore(Opcode op) { return op == Opcode::op_store || op == Opcode::op_store_int; }
inline bool isReduce(Opcode op) { return op == Opcode::op_reduce_sum || op == Opcode::op_reduce_max; }
inline bool isLoad(Opcode op) { return op == Opcode::op_load || op == Opcode::op_load_int; }
inline bool isConst(Opcode op) { return op == Opcode::op_const || op == Opcode::op_const_int; }

inline int registerOperands(Opcode op) {
  switch (op) {
#define PLINTH_CASE(name, number, operands) \
  case Opcode::op_##name:                   \
    return operands;
    PLINTH_OPCODES(PLINTH_CASE)
#undef PLINTH_CASE
  }
  throw std::runtime_error("fused: unknown opcode " + std::to_string(static_cast<int>(op)));
}

struct Plan {
  std::vector<Instruction> code;
  std::vector<Operand> operands;  // one per input
  int nBuffers = 0;
  int64_t rows = 1, columns = 1;  // leading axes, trailing reduced axes
  int nReductions = 0;
  int supplied = -1;

  bool isScalar(int input) const { return input != supplied && operands[input].isScalar(); }
};

inline bool overlaps(const Tensor& a, const Tensor& b) {
  struct Range {
    const char *begin, *end;
    explicit Range(const Tensor& t) : begin(t.as<char>()), end(begin + bytesOf(t.dtype)) {
      for (int i = 0; i < t.rank; i++) {
        const int64_t reach = (t.shape[i] - 1) * t.strides[i] * bytesOf(t.dtype);
        (reach < 0 ? begin : end) += reach;
      }
    }
  };
  const Range p(a), q(b);
  return p.begin < q.end && q.begin < p.end;
}

// An activation x * gate(x) and its gradient slope(x, gate(x)), which the two opcodes alone would each compute whole.
struct Gated {
  Opcode value, grad, gate, slope;
};
inline constexpr Gated kGated[] = {
    {Opcode::op_gelu_tanh, Opcode::op_gelu_tanh_grad, Opcode::op_gelu_tanh_gate, Opcode::op_gelu_tanh_slope},
    {Opcode::op_gelu_erf, Opcode::op_gelu_erf_grad, Opcode::op_gelu_erf_gate, Opcode::op_gelu_erf_slope},
    {Opcode::op_silu, Opcode::op_silu_grad, Opcode::op_sigmoid, Opcode::op_silu_slope},
};

// Where a value goes into an activation and into its gradient, both take the gate from one computation. Same bits.
inline void shareGates(Plan& plan) {
  for (const Gated& gated : kGated) {
    for (size_t i = 0; i < plan.code.size(); i++) {
      const Instruction first = plan.code[i];
      if (first.op != gated.value && first.op != gated.grad) continue;
      const Opcode other = first.op == gated.value ? gated.grad : gated.value;
      const auto isOther = [&](const Instruction& ins) { return ins.op == other && ins.a == first.a; };
      if (std::none_of(plan.code.begin() + static_cast<int64_t>(i), plan.code.end(), isOther)) continue;
      const int gate = plan.nBuffers++;
      for (Instruction& ins : plan.code) {
        if ((ins.op != gated.value && ins.op != gated.grad) || ins.a != first.a) continue;
        ins.op = ins.op == gated.value ? Opcode::op_mul : gated.slope;
        ins.b = gate;
      }
      plan.code.insert(plan.code.begin() + static_cast<int64_t>(i), {gated.gate, gate, first.a, 0, 0, -1, false});
    }
  }
}

// Renames registers to one buffer per value, hoists constants and scalars out of the block loop, and lets the producer
// of a stored value write straight to the output where nothing can notice. `supplied` is an input without memory: the
// caller hands its values to every block.
inline Plan makePlan(const KernelArgs& args, bool empty, int supplied = -1) {
  Plan plan;
  plan.supplied = supplied;
  const int nRegisters = static_cast<int>(args.ints[0]);
  const int reduced = static_cast<int>(args.ints[1]);
  const int nInstructions = static_cast<int>(args.ints[2]);
  require(nInstructions >= 0 && nInstructions <= (args.nInts - 3) / 5, "fused: fewer ints than instructions");
  require(nRegisters >= 0 && nRegisters <= 5 * args.nInts, "fused: more registers than instructions could use");

  // The iteration shape: that of any input, else of the first output.
  const Tensor& shape = args.nIn > 0 ? args.in[0] : args.out[0];
  require(reduced >= 0 && reduced <= shape.rank, "fused: more reduced axes than axes");
  for (int i = 0; i < shape.rank; i++) (i < shape.rank - reduced ? plan.rows : plan.columns) *= shape.shape[i];

  bool inPlace = false;
  for (int i = 0; i < args.nIn; i++) {
    if (supplied < 0) require(args.in[i].rank == shape.rank && args.in[i].size() == shape.size(), "fused: expected inputs of one shape");
    plan.operands.emplace_back(args.in[i]);
    if (empty || i == supplied) continue;
    for (int o = 0; o < args.nOut; o++) {
      inPlace = inPlace || overlaps(args.in[i], args.out[o]);
    }
  }

  std::vector<int> valueOf(nRegisters, -1);
  std::vector<Instruction> stores;
  for (int i = 0; i < nInstructions; i++) {
    const int64_t* w = args.ints + 3 + 5 * i;
    Instruction ins{static_cast<Opcode>(w[0]), -1, static_cast<int>(w[2]), static_cast<int>(w[3]),
                    static_cast<int>(w[4]), -1, false};
    const int operands = registerOperands(ins.op);
    const auto value = [&](int reg) {
      require(reg >= 0 && reg < nRegisters && valueOf[reg] >= 0, "fused: register read before it is written");
      return valueOf[reg];
    };
    const bool sink = isStore(ins.op) || isReduce(ins.op);
    if (sink) {
      require(ins.a >= 0 && ins.a < args.nOut, "fused: no such output");
      ins.b = value(ins.b);
      if (isReduce(ins.op)) plan.nReductions++;
      if (isStore(ins.op) && inPlace) {
        stores.push_back(ins);
        continue;
      }
    } else {
      if (operands >= 1) ins.a = value(ins.a);
      if (operands >= 2) ins.b = value(ins.b);
      if (operands >= 3) ins.c = value(ins.c);
      if (isLoad(ins.op)) require(ins.a >= 0 && ins.a < args.nIn, "fused: no such input");
      if (isConst(ins.op)) require(ins.a >= 0 && ins.a < args.nFloats, "fused: no such constant");
      require(w[1] >= 0 && w[1] < nRegisters, "fused: no such register");
      ins.dst = plan.nBuffers++;
      valueOf[w[1]] = ins.dst;
    }
    plan.code.push_back(ins);
  }
  shareGates(plan);
  plan.code.insert(plan.code.end(), stores.begin(), stores.end());

  std::vector<int> producer(plan.nBuffers, -1);
  for (size_t i = 0; i < plan.code.size(); i++) {
    Instruction& ins = plan.code[i];
    if (ins.dst >= 0) producer[ins.dst] = static_cast<int>(i);
    if (!isStore(ins.op)) continue;
    Instruction& made = plan.code[producer[ins.b]];
    if (inPlace) {
      // Stores come last, so only a value stored as it was loaded can be overwritten before it is read.
      if (isLoad(made.op)) plan.operands[made.a].mustCopy = true;
      continue;
    }
    const DType want = ins.op == Opcode::op_store ? DType::Float32 : DType::Int32;
    if (args.out[ins.a].dtype == want && made.directTo < 0 && !isLoad(made.op) && !isConst(made.op)) {
      made.directTo = ins.a;
      ins.eliminated = true;
    }
  }
  return plan;
}

// Buffers are reused once their value is dead; constants and scalar operands keep theirs. Returns how many are needed.
inline int assignBuffers(Plan& plan) {
  std::vector<int> lastUse(plan.nBuffers, -1);
  std::vector<bool> pinned(plan.nBuffers, false);
  const auto eachOperand = [](Instruction& ins, auto&& fn) {
    if (isStore(ins.op) || isReduce(ins.op)) {
      fn(ins.b);
      return;
    }
    const int n = registerOperands(ins.op);
    if (n >= 1) fn(ins.a);
    if (n >= 2) fn(ins.b);
    if (n >= 3) fn(ins.c);
  };
  for (size_t i = 0; i < plan.code.size(); i++) {
    eachOperand(plan.code[i], [&](int& v) { lastUse[v] = static_cast<int>(i); });
    Instruction& ins = plan.code[i];
    if (isConst(ins.op) || (isLoad(ins.op) && plan.isScalar(ins.a))) pinned[ins.dst] = true;
  }
  std::vector<int> slot(plan.nBuffers, -1), unused;
  int count = 0;
  for (int v = 0; v < plan.nBuffers; v++) {
    if (pinned[v]) slot[v] = count++;
  }
  for (size_t i = 0; i < plan.code.size(); i++) {
    Instruction& ins = plan.code[i];
    std::vector<int> dying;
    eachOperand(ins, [&](int& v) {
      if (lastUse[v] == static_cast<int>(i) && !pinned[v]) {
        if (std::find(dying.begin(), dying.end(), slot[v]) == dying.end()) dying.push_back(slot[v]);
      }
      v = slot[v];
    });
    // Freed before the result is placed: a vector loop may write where it reads.
    unused.insert(unused.end(), dying.begin(), dying.end());
    if (ins.dst < 0) continue;
    const int v = ins.dst;
    if (slot[v] < 0) {
      if (unused.empty()) {
        slot[v] = count++;
      } else {
        slot[v] = unused.back();
        unused.pop_back();
      }
    }
    ins.dst = slot[v];
    if (lastUse[v] < 0 && !pinned[v]) unused.push_back(slot[v]);
  }
  return count;
}

// What one thread needs to run the bytecode: register memory and where each register's block lies just now.
class Machine {
 public:
  // Keeps the thread's scratch `scratchSlot` as long as it lives.
  Machine(const KernelArgs& args, const Plan& plan, int nSlots, int scratchSlot = 0) : args_(args), plan_(plan) {
    const int64_t bytes = nSlots * kBlock * 4 + nSlots * static_cast<int64_t>(sizeof(void*)) + 64;
    memory_ = static_cast<float*>(ThreadPool::scratch(bytes, scratchSlot));
    at_ = reinterpret_cast<float**>(memory_ + nSlots * kBlock);
    for (int i = 0; i < nSlots; i++) at_[i] = own(i);
    const int64_t filled = std::min(kBlock, plan.rows * plan.columns);
    for (const Instruction& ins : plan.code) {
      if (isConst(ins.op)) {
        float x = 0;
        if (ins.op == Opcode::op_const) {
          x = static_cast<float>(args.floats[ins.a]);
        } else {
          const int32_t n = static_cast<int32_t>(args.floats[ins.a]);
          std::memcpy(&x, &n, 4);
        }
        std::fill_n(own(ins.dst), filled, x);
      } else if (isLoad(ins.op) && plan.isScalar(ins.a)) {
        plan.operands[ins.a].readScalar(filled, own(ins.dst));
      }
    }
  }

  // Runs the code on elements [begin, begin + n), n <= kBlock. `reduce(output, op, values)` receives what is reduced.
  template <typename Reduce>
  void block(int64_t begin, int64_t n, Reduce&& reduce, const float* suppliedValues = nullptr) {
    for (const Instruction& ins : plan_.code) {
      if (ins.eliminated || isConst(ins.op)) continue;
      if (isLoad(ins.op)) {
        if (ins.a == plan_.supplied) {
          at_[ins.dst] = const_cast<float*>(suppliedValues);
          continue;
        }
        const Operand& operand = plan_.operands[ins.a];
        if (operand.isScalar()) continue;
        const float* direct = operand.direct(begin, n);
        at_[ins.dst] = direct != nullptr ? const_cast<float*>(direct) : operand.read(begin, n, own(ins.dst));
      } else if (isStore(ins.op)) {
        storeBlock(args_.out[ins.a], begin, n, at_[ins.b], ins.op == Opcode::op_store_int);
      } else if (isReduce(ins.op)) {
        reduce(ins.a, ins.op, at_[ins.b]);
      } else {
        float* to = ins.directTo >= 0 ? args_.out[ins.directTo].as<float>() + begin : own(ins.dst);
        runOpcode(ins.op, to, operandAt(ins.op, 1, ins.a), operandAt(ins.op, 2, ins.b), operandAt(ins.op, 3, ins.c), n);
        at_[ins.dst] = to;
      }
    }
  }

 private:
  float* own(int slot) const { return memory_ + slot * kBlock; }
  const float* operandAt(Opcode op, int i, int slot) const { return registerOperands(op) >= i ? at_[slot] : nullptr; }

  const KernelArgs& args_;
  const Plan& plan_;
  float* memory_;
  float** at_;
};

}  // namespace plinth::bytecode
