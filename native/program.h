// A compiled program: instructions on planned memory, checked once, then run as often as one likes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "shared_arena.h"
#include "kernel.h"
#include "memory.h"
#include "mutex.h"

namespace plinth {

// Mirrors of `src/engine/compile/program.ts`.
enum class Storage : int { Arena = 0, Input = 1, Output = 2, Constant = 3 };

struct OperandSpec {
  Storage storage;
  int64_t index;
  int64_t byteOffset;
  Tensor tensor;  // data is filled in later
};

struct InstructionSpec {
  std::string kernel;
  std::string label;
  std::vector<OperandSpec> inputs, outputs;
  std::vector<int64_t> ints;
  std::vector<double> floats;
  int64_t workspaceOffset = 0, workspaceBytes = 0;
};

struct ProgramSpec {
  int64_t arenaBytes = 0;
  std::vector<int64_t> inputBytes, outputBytes;
  std::vector<AlignedBuffer> constants;
  std::vector<int64_t> constantBytes;
  std::vector<InstructionSpec> instructions;
};

struct ProfileEntry {
  std::string label, kernel;
  double seconds = 0;  // of all calls
  int64_t calls = 0;
  double lastStart = 0, lastSeconds = 0;  // of the last run: from its first instruction, and how long
};

class Program {
 public:
  // Throws std::runtime_error naming the instruction for an unknown kernel, an operand outside its storage, a workspace
  // outside the arena or an output that is not row-major.
  Program(ProgramSpec spec, ThreadPool& pool);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const std::vector<int64_t>& inputBytes() const { return spec_.inputBytes; }
  const std::vector<int64_t>& outputBytes() const { return spec_.outputBytes; }

  // Runs all instructions. One run at a time. Throws std::runtime_error("label: reason"). `cancelled` is looked at
  // between instructions; a cancelled run leaves its outputs unfinished.
  void run(const std::vector<void*>& inputs, const std::vector<void*>& outputs, const std::atomic<bool>& cancelled);

  // Label of the instruction that is running, or ran last.
  const std::string& currentLabel() const { return spec_.instructions[current_].label; }

  void setProfile(bool on);
  std::vector<ProfileEntry> profile() const;

 private:
  struct Patch {
    size_t tensor;
    size_t index;
    int64_t byteOffset;
  };

  void check() const;
  void checkOperand(const InstructionSpec& instruction, const OperandSpec& operand, const std::string& name,
                    bool output) const;
  void link(ThreadPool& pool);
  void placeArena();

  ProgramSpec spec_;
  std::vector<Tensor> tensors_;  // operands of all instructions, in order
  std::vector<Kernel> kernels_;
  std::vector<KernelArgs> args_;
  std::vector<Patch> inputPatches_, outputPatches_, arenaPatches_;
  std::shared_ptr<SharedArena> arena_;
  char* arenaAt_ = nullptr;  // where the intermediates were placed last
  size_t current_ = 0;
  std::atomic<bool> profiling_{false};
  mutable Mutex profileMutex_;
  std::vector<ProfileEntry> profile_;
};

}  // namespace plinth
