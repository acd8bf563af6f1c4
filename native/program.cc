#include "program.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>

namespace plinth {
namespace {

// Far beyond any machine, and small enough that sums and products of a few of them do not overflow.
constexpr int64_t kMaxBytes = int64_t{1} << 50;
constexpr int64_t kMaxElements = int64_t{1} << 50;
constexpr int64_t kMaxInt = int64_t{1} << 32;

const char* const kStorageNames[] = {"arena", "input", "output", "constant"};

[[noreturn]] void reject(const InstructionSpec& instruction, const std::string& problem) {
  throw std::runtime_error("createProgram: " + instruction.label + " (" + instruction.kernel + "): " + problem);
}

}  // namespace

Program::Program(ProgramSpec spec, ThreadPool& pool) : spec_(std::move(spec)), arena_(pool.arena()) {
  check();
  link(pool);
  arena_->join(spec_.arenaBytes);
}

Program::~Program() { arena_->leave(spec_.arenaBytes); }

void Program::check() const {
  if (spec_.arenaBytes < 0 || spec_.arenaBytes > kMaxBytes) {
    throw std::runtime_error("createProgram: expected a size of the arena, got " + std::to_string(spec_.arenaBytes));
  }
  for (const auto* sizes : {&spec_.inputBytes, &spec_.outputBytes}) {
    for (const int64_t bytes : *sizes) {
      if (bytes < 0 || bytes > kMaxBytes) {
        throw std::runtime_error("createProgram: expected a size of an input or output, got " + std::to_string(bytes));
      }
    }
  }
  for (const InstructionSpec& instruction : spec_.instructions) {
    if (findKernel(instruction.kernel) == nullptr) {
      reject(instruction, "no kernel of this name. Fix: build the native part again (npm run build:native)");
    }
    for (size_t i = 0; i < instruction.inputs.size(); i++) {
      checkOperand(instruction, instruction.inputs[i], "input " + std::to_string(i), false);
    }
    for (size_t i = 0; i < instruction.outputs.size(); i++) {
      checkOperand(instruction, instruction.outputs[i], "output " + std::to_string(i), true);
    }
    for (const int64_t value : instruction.ints) {
      if (value < -kMaxInt || value > kMaxInt) reject(instruction, "expected smaller ints than " + std::to_string(value));
    }
    if (instruction.workspaceBytes < 0) reject(instruction, "its workspace has a negative size");
    if (instruction.workspaceBytes > 0 &&
        (instruction.workspaceOffset < 0 || instruction.workspaceBytes > spec_.arenaBytes || instruction.workspaceOffset % static_cast<int64_t>(kAlignment) != 0 ||
         instruction.workspaceOffset > spec_.arenaBytes - instruction.workspaceBytes)) {
      reject(instruction, "workspace [" + std::to_string(instruction.workspaceOffset) + ", +" +
                              std::to_string(instruction.workspaceBytes) + ") is misaligned or outside the arena of " +
                              std::to_string(spec_.arenaBytes) + " bytes");
    }
  }
}

void Program::checkOperand(const InstructionSpec& instruction, const OperandSpec& operand, const std::string& name,
                           bool output) const {
  int64_t bytes = 0;
  const int storage = static_cast<int>(operand.storage);
  const std::string place = std::string(kStorageNames[storage]) + " " + std::to_string(operand.index);
  const auto pick = [&](const std::vector<int64_t>& sizes) {
    if (operand.index < 0 || operand.index >= static_cast<int64_t>(sizes.size())) {
      reject(instruction, name + " refers to " + place + ", but there are " + std::to_string(sizes.size()));
    }
    return sizes[static_cast<size_t>(operand.index)];
  };
  switch (operand.storage) {
    case Storage::Arena: bytes = spec_.arenaBytes; break;
    case Storage::Input: bytes = pick(spec_.inputBytes); break;
    case Storage::Output: bytes = pick(spec_.outputBytes); break;
    case Storage::Constant: bytes = pick(spec_.constantBytes); break;
  }
  const Tensor& tensor = operand.tensor;
  const int64_t size = bytesOf(tensor.dtype);
  const auto outside = [&](const std::string& reach) {
    reject(instruction, name + " reaches " + reach + " of " + place + ", which has " + std::to_string(bytes));
  };
  int64_t lowest = 0, highest = 0, elements = 1;
  const bool empty = std::find(tensor.shape, tensor.shape + tensor.rank, 0) != tensor.shape + tensor.rank;
  for (int i = 0; i < tensor.rank; i++) {
    const int64_t n = tensor.shape[i], stride = tensor.strides[i];
    if (n < 0) reject(instruction, name + " has a negative size");
    if (n > kMaxElements) reject(instruction, name + " has an axis of " + std::to_string(n) + " elements");
    if (n <= 1) continue;
    if (elements > kMaxElements / n) reject(instruction, name + " has too many elements");
    elements *= n;
    // Before they are multiplied: numbers from outside may be anything.
    if (empty) continue;
    if (stride > bytes / (n - 1) || stride < -(bytes / (n - 1))) outside("beyond the end");
    (stride < 0 ? lowest : highest) += (n - 1) * stride;
  }
  if (operand.byteOffset < -kMaxBytes || operand.byteOffset > kMaxBytes) {
    outside("byte " + std::to_string(operand.byteOffset));
  }
  if (operand.byteOffset % size != 0) reject(instruction, name + " is not aligned to its elements");
  if (!empty && (operand.byteOffset + lowest * size < 0 || operand.byteOffset + (highest + 1) * size > bytes)) {
    outside("bytes " + std::to_string(operand.byteOffset + lowest * size) + " to " +
            std::to_string(operand.byteOffset + (highest + 1) * size));
  }
  if (output && !empty && !tensor.isRowMajor()) reject(instruction, name + " is not row-major");
}

void Program::link(ThreadPool& pool) {
  size_t count = 0;
  for (const InstructionSpec& instruction : spec_.instructions) {
    count += instruction.inputs.size() + instruction.outputs.size();
  }
  tensors_.reserve(count);  // KernelArgs point into it
  for (InstructionSpec& instruction : spec_.instructions) {
    const size_t firstInput = tensors_.size();
    for (const auto* operands : {&instruction.inputs, &instruction.outputs}) {
      for (const OperandSpec& operand : *operands) {
        const Patch patch{tensors_.size(), static_cast<size_t>(operand.index), operand.byteOffset};
        tensors_.push_back(operand.tensor);
        switch (operand.storage) {
          case Storage::Arena: arenaPatches_.push_back(patch); break;
          case Storage::Input: inputPatches_.push_back(patch); break;
          case Storage::Output: outputPatches_.push_back(patch); break;
          case Storage::Constant:
            tensors_.back().data = static_cast<char*>(spec_.constants[patch.index].data()) + patch.byteOffset;
            break;
        }
      }
    }
    const Tensor* in = tensors_.data() + firstInput;
    kernels_.push_back(findKernel(instruction.kernel));
    args_.push_back({in, static_cast<int>(instruction.inputs.size()),
                     tensors_.data() + firstInput + instruction.inputs.size(),
                     static_cast<int>(instruction.outputs.size()), instruction.ints.data(),
                     static_cast<int>(instruction.ints.size()), instruction.floats.data(),
                     static_cast<int>(instruction.floats.size()), nullptr, instruction.workspaceBytes, pool});
    profile_.push_back({instruction.label, instruction.kernel});
  }
}

void Program::placeArena() {
  char* base = nullptr;
  try {
    base = arena_->reserve(spec_.arenaBytes);
  } catch (const std::bad_alloc&) {
    arenaAt_ = nullptr;
    throw std::runtime_error("out of memory: the program needs " + std::to_string(spec_.arenaBytes) +
                             " bytes for intermediate values. Fix: use a smaller batch or context");
  }
  if (base == arenaAt_) return;
  for (const Patch& patch : arenaPatches_) tensors_[patch.tensor].data = base + patch.byteOffset;
  for (size_t i = 0; i < args_.size(); i++) {
    if (args_[i].workspaceBytes > 0) args_[i].workspace = base + spec_.instructions[i].workspaceOffset;
  }
  arenaAt_ = base;
}

void Program::run(const std::vector<void*>& inputs, const std::vector<void*>& outputs,
                  const std::atomic<bool>& cancelled) {
  placeArena();
  for (const Patch& patch : inputPatches_) {
    tensors_[patch.tensor].data = static_cast<char*>(inputs[patch.index]) + patch.byteOffset;
  }
  for (const Patch& patch : outputPatches_) {
    tensors_[patch.tensor].data = static_cast<char*>(outputs[patch.index]) + patch.byteOffset;
  }
  const bool profiling = profiling_;
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> times(profiling ? 2 * args_.size() : 0);  // begin and end of each instruction
  for (size_t i = 0; i < args_.size(); i++) {
    if (cancelled.load(std::memory_order_relaxed)) return;
    current_ = i;
    if (profiling) times[2 * i] = Clock::now();
    try {
      kernels_[i](args_[i]);
    } catch (const std::exception& error) {
      throw std::runtime_error(spec_.instructions[i].label + ": " + error.what());
    }
    if (profiling) times[2 * i + 1] = Clock::now();
  }
  if (profiling) {
    const auto seconds = [](Clock::time_point from, Clock::time_point to) {
      return std::chrono::duration<double>(to - from).count();
    };
    Lock lock(profileMutex_);
    for (size_t i = 0; i < profile_.size(); i++) {
      ProfileEntry& entry = profile_[i];
      entry.lastStart = seconds(times[0], times[2 * i]);
      entry.lastSeconds = seconds(times[2 * i], times[2 * i + 1]);
      entry.seconds += entry.lastSeconds;
      entry.calls++;
    }
  }
}

void Program::setProfile(bool on) {
  Lock lock(profileMutex_);
  if (on && !profiling_) {
    for (ProfileEntry& entry : profile_) entry = {entry.label, entry.kernel};
  }
  profiling_ = on;
}

std::vector<ProfileEntry> Program::profile() const {
  Lock lock(profileMutex_);
  return profile_;
}

}  // namespace plinth
