// Elementwise chains with broadcast operands and trailing reductions: bytecode run over blocks that stay in the first-level
// cache, one vector loop per instruction. Contract: KERNELS.md ("fused", "Fused bytecode").
#include <algorithm>
#include <cstring>
#include <string>
#include <limits>
#include <vector>

#include "../kernel.h"
#include "../opcodes.h"
#include "../simd.h"
#include "fused_ops.h"
#include "fused_operand.h"

namespace plinth {
namespace {

// Elements per register block. Sums are split at multiples of kReduceChunk, so both are part of the results' bits.
constexpr int64_t kBlock = 1024;
constexpr int64_t kReduceChunk = 64 * kBlock;
// Elements per task: enough work to hide the cost of a claim.
constexpr int64_t kTask = 16 * kBlock;

struct Instruction {
  Opcode op;
  int dst;         // buffer written, or -1
  int a, b, c;     // operands: input, constant or output index, or buffers, as the opcode has it
  int directTo;    // output whose memory this instruction writes instead of its buffer, or -1
  bool eliminated; // a store that its producer has done, or a constant set before the loop
};

bool isStore(Opcode op) { return op == Opcode::op_store || op == Opcode::op_store_int; }
bool isReduce(Opcode op) { return op == Opcode::op_reduce_sum || op == Opcode::op_reduce_max; }
bool isLoad(Opcode op) { return op == Opcode::op_load || op == Opcode::op_load_int; }
bool isConst(Opcode op) { return op == Opcode::op_const || op == Opcode::op_const_int; }

int registerOperands(Opcode op) {
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
};

bool overlaps(const Tensor& a, const Tensor& b) {
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

// Renames registers to one buffer per value, hoists constants and scalars out of the block loop, and lets the producer
// of a stored value write straight to the output where nothing can notice.
Plan makePlan(const KernelArgs& args, bool empty) {
  Plan plan;
  const int nRegisters = static_cast<int>(args.ints[0]);
  const int reduced = static_cast<int>(args.ints[1]);
  const int nInstructions = static_cast<int>(args.ints[2]);
  require(args.nInts >= 3 + 5 * nInstructions, "fused: fewer ints than instructions");

  // The iteration shape: that of any input, else of the first output.
  const Tensor& shape = args.nIn > 0 ? args.in[0] : args.out[0];
  require(reduced >= 0 && reduced <= shape.rank, "fused: more reduced axes than axes");
  for (int i = 0; i < shape.rank; i++) (i < shape.rank - reduced ? plan.rows : plan.columns) *= shape.shape[i];

  bool inPlace = false;
  for (int i = 0; i < args.nIn; i++) {
    plan.operands.emplace_back(args.in[i]);
    if (empty) continue;
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
int assignBuffers(Plan& plan) {
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
    if (isConst(ins.op) || (isLoad(ins.op) && plan.operands[ins.a].isScalar())) pinned[ins.dst] = true;
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
  Machine(const KernelArgs& args, const Plan& plan, int nSlots) : args_(args), plan_(plan) {
    const int64_t bytes = nSlots * kBlock * 4 + nSlots * static_cast<int64_t>(sizeof(void*)) + 64;
    memory_ = static_cast<float*>(ThreadPool::scratch(bytes));
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
      } else if (isLoad(ins.op) && plan.operands[ins.a].isScalar()) {
        plan.operands[ins.a].readScalar(filled, own(ins.dst));
      }
    }
  }

  // Runs the code on elements [begin, begin + n), n <= kBlock. `reduce(output, op, values)` receives what is reduced.
  template <typename Reduce>
  void block(int64_t begin, int64_t n, Reduce&& reduce) {
    for (const Instruction& ins : plan_.code) {
      if (ins.eliminated || isConst(ins.op)) continue;
      if (isLoad(ins.op)) {
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

void runElementwise(const KernelArgs& args, const Plan& plan, int nSlots) {
  const int64_t size = plan.rows * plan.columns;
  args.pool.parallelRange(size, kTask, [&](int64_t begin, int64_t end) {
    Machine machine(args, plan, nSlots);
    for (int64_t at = begin; at < end; at += kBlock) {
      machine.block(at, std::min(kBlock, end - at), [](int, Opcode, const float*) {});
    }
  });
}

void combine(Opcode op, double& total, double part) {
  if (op == Opcode::op_reduce_sum) total += part;
  else total = total != total ? total : (part > total || part != part) ? part : total;
}
double startOf(Opcode op) { return op == Opcode::op_reduce_sum ? 0.0 : -std::numeric_limits<double>::infinity(); }

// Short rows: several whole rows per block.
void runShortRows(const KernelArgs& args, const Plan& plan, int nSlots) {
  const int64_t rowsPerBlock = kBlock / plan.columns;
  const int64_t blocksPerTask = std::max<int64_t>(1, kTask / (rowsPerBlock * plan.columns));
  args.pool.parallelRange(plan.rows, rowsPerBlock * blocksPerTask, [&](int64_t begin, int64_t end) {
    Machine machine(args, plan, nSlots);
    for (int64_t row = begin; row < end; row += rowsPerBlock) {
      const int64_t count = std::min(rowsPerBlock, end - row);
      machine.block(row * plan.columns, count * plan.columns, [&](int output, Opcode op, const float* values) {
        float* out = args.out[output].as<float>() + row;
        for (int64_t i = 0; i < count; i++) out[i] = reduceRun(op, values + i * plan.columns, plan.columns);
      });
    }
  });
}

// Long rows: each row in chunks that depend on its length alone; the chunks' results are combined in order.
void runLongRows(const KernelArgs& args, const Plan& plan, int nSlots) {
  const int64_t chunks = (plan.columns + kReduceChunk - 1) / kReduceChunk;
  const int64_t nReductions = std::max(plan.nReductions, 1);
  std::vector<Opcode> kind(args.nOut, Opcode::op_reduce_sum);
  std::vector<int> index(args.nOut, -1);
  int next = 0;
  for (const Instruction& ins : plan.code) {
    if (!isReduce(ins.op)) continue;
    kind[ins.a] = ins.op;
    index[ins.a] = next++;
  }
  auto* partial = static_cast<double*>(ThreadPool::scratch(plan.rows * chunks * nReductions * 8, 3));
  const int64_t rowsPerTask = std::max<int64_t>(1, kTask / plan.columns);
  args.pool.parallelRange(plan.rows * chunks, rowsPerTask, [&](int64_t firstTask, int64_t lastTask) {
    Machine machine(args, plan, nSlots);
    for (int64_t task = firstTask; task < lastTask; task++) {
      const int64_t row = task / chunks, chunk = task % chunks;
      double* part = partial + task * nReductions;
      for (int o = 0; o < args.nOut; o++) {
        if (index[o] >= 0) part[index[o]] = startOf(kind[o]);
      }
      const int64_t begin = chunk * kReduceChunk, end = std::min(plan.columns, begin + kReduceChunk);
      for (int64_t at = begin; at < end; at += kBlock) {
        const int64_t n = std::min(kBlock, end - at);
        machine.block(row * plan.columns + at, n, [&](int output, Opcode op, const float* values) {
          combine(op, part[index[output]], reduceRun(op, values, n));
        });
      }
    }
  });
  for (int o = 0; o < args.nOut; o++) {
    if (index[o] < 0) continue;
    for (int64_t row = 0; row < plan.rows; row++) {
      double total = startOf(kind[o]);
      for (int64_t c = 0; c < chunks; c++) combine(kind[o], total, partial[(row * chunks + c) * nReductions + index[o]]);
      args.out[o].as<float>()[row] = static_cast<float>(total);
    }
  }
}

void fused(const KernelArgs& args) {
  require(args.nInts >= 3, "fused: expected [nRegisters, r, nInstructions, ...]");
  require(args.nOut > 0, "fused: expected an output");
  const Tensor& shape = args.nIn > 0 ? args.in[0] : args.out[0];
  Plan plan = makePlan(args, shape.size() == 0);
  for (const Instruction& ins : plan.code) {
    if (isReduce(ins.op)) require(args.out[ins.a].dtype == DType::Float32, "fused: reductions give float32");
  }
  if (plan.rows * plan.columns == 0) {
    // Nothing to read; reductions over no elements have a value all the same.
    for (const Instruction& ins : plan.code) {
      if (!isReduce(ins.op)) continue;
      std::fill_n(args.out[ins.a].as<float>(), plan.rows, static_cast<float>(startOf(ins.op)));
    }
    return;
  }
  const int nSlots = assignBuffers(plan);
  if (plan.nReductions == 0) runElementwise(args, plan, nSlots);
  else if (plan.columns <= kBlock) runShortRows(args, plan, nSlots);
  else runLongRows(args, plan, nSlots);
}

PLINTH_KERNEL("fused", fused);

}  // namespace
}  // namespace plinth
