// The engine as a WebAssembly module: what `src/engine/backends/wasm-module.ts` calls. One thread, one memory.
//
// Errors leave as JavaScript exceptions: `throw` ends in __cxa_throw below, which calls the imported function `fail`, and
// that throws in JavaScript, through all frames of WebAssembly at once. So the sources are the same as everywhere, but
// no `catch` ever catches and no destructor runs on the way: what the failed call had allocated is lost, and the caller
// puts the stack pointer back.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <typeinfo>
#include <vector>

#include "kernel.h"
#include "memory.h"
#include "program.h"
#include "program_image.h"
#include "thread_pool.h"

#define PLINTH_EXPORT(name) extern "C" __attribute__((export_name(name)))

extern "C" {
__attribute__((import_module("plinth"), import_name("fail"), noreturn)) void plinthFail(const char* text, size_t length);
}

namespace plinth {
namespace {

ThreadPool& pool() {
  static ThreadPool pool(1);
  return pool;
}

const Program* running = nullptr;

// Bytes that the caller reads until the next call.
std::string& result() {
  static std::string text;
  return text;
}

}  // namespace
}  // namespace plinth

using plinth::Program;

// Memory for programs, inputs and outputs: 64-byte aligned, zeroed. 0 where there is none left.
PLINTH_EXPORT("allocate") void* plinthAllocate(double bytes) {
  if (!(bytes <= 0xffffffff)) return nullptr;
  void* data = nullptr;
  return posix_memalign(&data, plinth::kAlignment, static_cast<size_t>(bytes < 1 ? 1 : bytes)) == 0 ? data : nullptr;
}

PLINTH_EXPORT("release") void plinthRelease(void* data) { std::free(data); }

// A program of its image.
PLINTH_EXPORT("createProgram") Program* plinthCreate(const void* image, size_t bytes) {
  plinth::running = nullptr;
  plinth::ImageReader reader(image, static_cast<int64_t>(bytes));
  return new Program(plinth::readProgram(reader).spec, plinth::pool());
}

PLINTH_EXPORT("releaseProgram") void plinthReleaseProgram(Program* program) { delete program; }

// `buffers`: addresses of the inputs, then of the outputs.
PLINTH_EXPORT("run") void plinthRun(Program* program, void** buffers) {
  const size_t inputs = program->inputBytes().size(), outputs = program->outputBytes().size();
  static const std::atomic<bool> never{false};
  plinth::running = program;
  const std::vector<void*> in(buffers, buffers + inputs), out(buffers + inputs, buffers + inputs + outputs);
  program->run(in, out, never);
  plinth::running = nullptr;
}

PLINTH_EXPORT("profile") void plinthProfile(Program* program, int on) { program->setProfile(on != 0); }

// Lines "calls nanoseconds start last kernel label" (KERNELS.md, profileResult); their size in bytes comes back, their address from `resultText`.
PLINTH_EXPORT("profileResult") size_t plinthProfileResult(const Program* program) {
  std::string& text = plinth::result();
  text.clear();
  for (const plinth::ProfileEntry& entry : program->profile()) {
    text += std::to_string(entry.calls) + ' ';
    for (const double seconds : {entry.seconds, entry.lastStart, entry.lastSeconds}) {
      text += std::to_string(static_cast<int64_t>(seconds * 1e9)) + ' ';
    }
    text += entry.kernel + ' ' + entry.label + '\n';
  }
  return text.size();
}

// Names of the kernels, one a line.
PLINTH_EXPORT("kernels") size_t plinthKernels() {
  std::string& text = plinth::result();
  text.clear();
  for (auto* entry = plinth::KernelRegistration::first; entry != nullptr; entry = entry->next) {
    text += std::string(entry->name) + '\n';
  }
  return text.size();
}

PLINTH_EXPORT("resultText") const char* plinthResultText() { return plinth::result().data(); }

// What the compiler makes of `throw`.
extern "C" void* __cxa_allocate_exception(size_t size) noexcept { return std::malloc(size); }
extern "C" void __cxa_free_exception(void* exception) noexcept { std::free(exception); }
extern "C" [[noreturn]] void __cxa_throw(void* exception, std::type_info*, void (*)(void*)) {
  // Everything thrown in the engine derives from std::exception and from nothing else.
  std::string text = static_cast<const std::exception*>(exception)->what();
  if (plinth::running != nullptr) text = plinth::running->currentLabel() + ": " + text;
  plinth::running = nullptr;
  plinthFail(text.data(), text.size());
}
