// Elementwise chains with broadcast operands and trailing reductions: bytecode run over blocks that stay in the first-level
// cache, one vector loop per instruction. Contract: KERNELS.md ("fused", "Fused bytecode").
#include <algorithm>
#include <limits>
#include <vector>

#include "../kernel.h"
#include "fused_machine.h"

namespace plinth {
namespace {

using namespace bytecode;

// Sums are split at multiples of this, so it is part of the results' bits.
constexpr int64_t kReduceChunk = 64 * kBlock;
// Elements per task: enough work to hide the cost of a claim.
constexpr int64_t kTask = 16 * kBlock;

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
