// The functions that JavaScript sees (native/KERNELS.md).
#include <algorithm>
#include <cstring>
#include <memory>

#include "addon.h"
#include "cpu.h"
#include "engine.h"
#include "js.h"
#include "kernel.h"
#include "memory.h"
#include "opcodes.h"
#include "program.h"

namespace plinth {
namespace {

using Args = std::vector<napi_value>;

// Distinguishes our externals from anybody else's.
constexpr napi_type_tag kProgramTag = {0x9c1f6a6de1f04c1bULL, 0xb7a55e8f0c3d4a21ULL};

// What one JavaScript environment (the main thread or a worker_thread) holds.
struct State {
  napi_env env = nullptr;
  napi_threadsafe_function finished = nullptr;
  std::unique_ptr<Engine> engine;
  int64_t running = 0;
};

struct Completion {
  napi_deferred deferred;
  napi_ref buffers;  // keeps inputs and outputs from being collected
};

State& stateOf(napi_env env) {
  void* data = nullptr;
  js::check(env, napi_get_instance_data(env, &data));
  return *static_cast<State*>(data);
}

// On the JavaScript thread, after a run.
void settle(napi_env env, napi_value, void* context, void* data) {
  std::unique_ptr<RunRequest> request(static_cast<RunRequest*>(data));
  std::unique_ptr<Completion> completion(static_cast<Completion*>(request->context));
  if (env == nullptr) return;  // the environment is going away
  State& state = *static_cast<State*>(context);
  if (--state.running == 0) napi_unref_threadsafe_function(env, state.finished);
  napi_delete_reference(env, completion->buffers);
  napi_value value = nullptr;
  if (request->error.empty()) {
    napi_get_undefined(env, &value);
    napi_resolve_deferred(env, completion->deferred, value);
  } else {
    napi_value message;
    napi_create_string_utf8(env, request->error.data(), request->error.size(), &message);
    napi_create_error(env, nullptr, message, &value);
    napi_reject_deferred(env, completion->deferred, value);
  }
}

// Runs before the environment's memory goes away: nothing may compute in it any longer.
void tearDown(void* data) {
  State& state = *static_cast<State*>(data);
  state.engine.reset();
}

Engine& engineOf(napi_env env) {
  State& state = stateOf(env);
  if (state.engine == nullptr) {
    if (state.finished == nullptr) {
      js::check(env, napi_create_threadsafe_function(env, nullptr, nullptr, js::fromString(env, "plinth"), 0, 1, nullptr,
                                                     nullptr, &state, settle, &state.finished));
      js::check(env, napi_unref_threadsafe_function(env, state.finished));
      js::check(env, napi_add_env_cleanup_hook(env, tearDown, &state));
    }
    const napi_threadsafe_function finished = state.finished;
    state.engine = std::make_unique<Engine>([finished](std::unique_ptr<RunRequest> request) {
      if (napi_call_threadsafe_function(finished, request.get(), napi_tsfn_nonblocking) == napi_ok) request.release();
    });
  }
  return *state.engine;
}

napi_value isa(napi_env env, const Args&) { return js::fromString(env, compiledIsa()); }

napi_value features(napi_env env, const Args&) { return js::fromStrings(env, cpuFeatures()); }

napi_value threads(napi_env env, const Args&) { return js::fromDouble(env, engineOf(env).pool().threads()); }

napi_value setThreads(napi_env env, const Args& args) {
  const int64_t n = js::toInt(env, args[0], "setThreads");
  if (n < 1 || n > kMaxThreads) {
    throw std::runtime_error("setThreads: expected 1 to " + std::to_string(kMaxThreads) + ", got " + std::to_string(n));
  }
  Engine& engine = engineOf(env);
  if (!engine.isIdle()) throw std::runtime_error("setThreads: a program is running. Fix: await it first.");
  engine.setThreads(static_cast<int>(n));
  return nullptr;
}

napi_value allocate(napi_env env, const Args& args) {
  const int64_t bytes = js::toInt(env, args[0], "allocate");
  if (bytes < 0) throw std::runtime_error("allocate: expected a size, got " + std::to_string(bytes));
  napi_value buffer;
  if (bytes == 0) {
    void* unused;
    js::check(env, napi_create_arraybuffer(env, 0, &unused, &buffer));
    return buffer;
  }
  auto owner = std::make_unique<AlignedBuffer>();
  try {
    *owner = AlignedBuffer(bytes);
  } catch (const std::bad_alloc&) {
    throw std::runtime_error("out of memory: cannot allocate " + std::to_string(bytes) + " bytes");
  }
  const auto release = [](napi_env, void*, void* hint) { delete static_cast<AlignedBuffer*>(hint); };
  js::check(env, napi_create_external_arraybuffer(env, owner->data(), static_cast<size_t>(bytes), release, owner.get(),
                                                  &buffer));
  owner.release();
  return buffer;
}

napi_value mapFileToBuffer(napi_env env, const Args& args) {
  const MappedFile file = mapFile(js::toString(env, args[0], "mapFile"));
  napi_value buffer;
  if (file.bytes == 0) {
    void* unused;
    js::check(env, napi_create_arraybuffer(env, 0, &unused, &buffer));
    return buffer;
  }
  auto* owner = new MappedFile(file);
  const auto release = [](napi_env, void*, void* hint) {
    unmapFile(*static_cast<MappedFile*>(hint));
    delete static_cast<MappedFile*>(hint);
  };
  const napi_status status =
      napi_create_external_arraybuffer(env, file.data, static_cast<size_t>(file.bytes), release, owner, &buffer);
  if (status != napi_ok) {
    unmapFile(file);
    delete owner;
    js::check(env, status);
  }
  return buffer;
}

napi_value kernels(napi_env env, const Args&) {
  std::vector<std::string> names;
  for (auto* entry = KernelRegistration::first; entry != nullptr; entry = entry->next) names.push_back(entry->name);
  std::sort(names.begin(), names.end());
  return js::fromStrings(env, names);
}

napi_value opcodes(napi_env env, const Args&) {
  napi_value object;
  js::check(env, napi_create_object(env, &object));
#define PLINTH_OPCODE_ENTRY(name, number, operands) js::set(env, object, #name, js::fromDouble(env, number));
  PLINTH_OPCODES(PLINTH_OPCODE_ENTRY)
#undef PLINTH_OPCODE_ENTRY
  return object;
}

template <typename T>
std::vector<T> readList(napi_env env, napi_value array, const char* what, T (*read)(napi_env, napi_value, const char*)) {
  std::vector<T> list(js::length(env, array, what));
  for (uint32_t i = 0; i < list.size(); i++) list[i] = read(env, js::get(env, array, i), what);
  return list;
}

OperandSpec readOperand(napi_env env, napi_value value) {
  OperandSpec operand{};
  const int64_t storage = js::toInt(env, js::get(env, value, "storage"), "operand.storage");
  if (storage < 0 || storage > 3) throw std::runtime_error("operand.storage: expected 0 to 3");
  operand.storage = static_cast<Storage>(storage);
  operand.index = js::toInt(env, js::get(env, value, "index"), "operand.index");
  operand.byteOffset = js::toInt(env, js::get(env, value, "byteOffset"), "operand.byteOffset");
  const int64_t dtype = js::toInt(env, js::get(env, value, "dtype"), "operand.dtype");
  if (dtype < 0 || dtype >= kDTypes) throw std::runtime_error("operand.dtype: expected a code of 0 to 4");
  operand.tensor.dtype = static_cast<DType>(dtype);
  const auto shape = readList(env, js::get(env, value, "shape"), "operand.shape", js::toInt);
  const auto strides = readList(env, js::get(env, value, "strides"), "operand.strides", js::toInt);
  if (shape.size() > kMaxRank) {
    throw std::runtime_error("expected a tensor of at most " + std::to_string(kMaxRank) + " axes, got " +
                             std::to_string(shape.size()));
  }
  if (shape.size() != strides.size()) throw std::runtime_error("operand: shape and strides differ in length");
  operand.tensor.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), operand.tensor.shape);
  std::copy(strides.begin(), strides.end(), operand.tensor.strides);
  return operand;
}

InstructionSpec readInstruction(napi_env env, napi_value value) {
  InstructionSpec instruction;
  instruction.kernel = js::toString(env, js::get(env, value, "kernel"), "instruction.kernel");
  instruction.label = js::toString(env, js::get(env, value, "label"), "instruction.label");
  try {
    for (const bool output : {false, true}) {
      const napi_value list = js::get(env, value, output ? "outputs" : "inputs");
      const uint32_t n = js::length(env, list, "instruction operands");
      auto& operands = output ? instruction.outputs : instruction.inputs;
      for (uint32_t i = 0; i < n; i++) operands.push_back(readOperand(env, js::get(env, list, i)));
    }
    instruction.ints = readList(env, js::get(env, value, "ints"), "ints", js::toInt);
    instruction.floats = readList(env, js::get(env, value, "floats"), "floats", js::toDouble);
    instruction.workspaceOffset = js::toInt(env, js::get(env, value, "workspaceOffset"), "workspaceOffset");
    instruction.workspaceBytes = js::toInt(env, js::get(env, value, "workspaceBytes"), "workspaceBytes");
  } catch (const std::exception& error) {
    throw std::runtime_error("createProgram: " + instruction.label + " (" + instruction.kernel + "): " + error.what());
  }
  return instruction;
}

ProgramSpec readSpec(napi_env env, napi_value value) {
  ProgramSpec spec;
  spec.arenaBytes = js::toInt(env, js::get(env, value, "arenaBytes"), "arenaBytes");
  for (const bool output : {false, true}) {
    const napi_value list = js::get(env, value, output ? "outputs" : "inputs");
    const uint32_t n = js::length(env, list, output ? "outputs" : "inputs");
    for (uint32_t i = 0; i < n; i++) {
      const int64_t bytes = js::toInt(env, js::get(env, js::get(env, list, i), "bytes"), "bytes");
      (output ? spec.outputBytes : spec.inputBytes).push_back(bytes);
    }
  }
  const napi_value constants = js::get(env, value, "constants");
  for (uint32_t i = 0, n = js::length(env, constants, "constants"); i < n; i++) {
    const js::Bytes bytes = js::toBytes(env, js::get(env, constants, i), "constant");
    spec.constants.emplace_back(bytes.size);
    spec.constantBytes.push_back(bytes.size);
    if (bytes.size > 0) std::memcpy(spec.constants.back().data(), bytes.data, static_cast<size_t>(bytes.size));
  }
  const napi_value instructions = js::get(env, value, "instructions");
  for (uint32_t i = 0, n = js::length(env, instructions, "instructions"); i < n; i++) {
    const js::Scope scope(env);
    spec.instructions.push_back(readInstruction(env, js::get(env, instructions, i)));
  }
  return spec;
}

napi_value createProgram(napi_env env, const Args& args) {
  auto program = std::make_unique<std::shared_ptr<Program>>(
      std::make_shared<Program>(readSpec(env, args[0]), engineOf(env).pool()));
  napi_value external;
  const auto release = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Program>*>(data); };
  js::check(env, napi_create_external(env, program.get(), release, nullptr, &external));
  program.release();
  js::check(env, napi_type_tag_object(env, external, &kProgramTag));
  return external;
}

std::shared_ptr<Program> toProgram(napi_env env, napi_value value, const char* what) {
  napi_valuetype type;
  js::check(env, napi_typeof(env, value, &type));
  bool ours = false;
  if (type == napi_external) js::check(env, napi_check_object_type_tag(env, value, &kProgramTag, &ours));
  if (!ours) throw std::runtime_error(std::string(what) + ": expected a program made by createProgram");
  void* data = nullptr;
  js::check(env, napi_get_value_external(env, value, &data));
  return *static_cast<std::shared_ptr<Program>*>(data);
}

// Appends the buffers' addresses to `pointers`.
void readBuffers(napi_env env, napi_value list, const char* what, const std::vector<int64_t>& expected,
                 std::vector<void*>& pointers) {
  const uint32_t n = js::length(env, list, "run");
  if (n != expected.size()) {
    throw std::runtime_error(std::string("run: expected ") + std::to_string(expected.size()) + " " + what + "s, got " +
                             std::to_string(n));
  }
  for (uint32_t i = 0; i < n; i++) {
    const js::Bytes bytes = js::toBytes(env, js::get(env, list, i), "run");
    if (bytes.size != expected[i]) {
      throw std::runtime_error(std::string("run: expected ") + std::to_string(expected[i]) + " bytes for " + what + " " +
                               std::to_string(i) + ", got " + std::to_string(bytes.size));
    }
    pointers.push_back(bytes.data);
  }
}

napi_value run(napi_env env, const Args& args) {
  State& state = stateOf(env);
  Engine& engine = engineOf(env);
  auto request = std::make_unique<RunRequest>();
  request->program = toProgram(env, args[0], "run");
  const auto& inputBytes = request->program->inputBytes();
  const auto& outputBytes = request->program->outputBytes();
  napi_value keep, promise;
  // The lists keep their buffers: whoever runs a program leaves them as they are.
  js::check(env, napi_create_array_with_length(env, 2, &keep));
  for (uint32_t i = 0; i < 2; i++) js::check(env, napi_set_element(env, keep, i, args[i + 1]));
  readBuffers(env, args[1], "input", inputBytes, request->inputs);
  readBuffers(env, args[2], "output", outputBytes, request->outputs);
  auto completion = std::make_unique<Completion>();
  js::check(env, napi_create_reference(env, keep, 1, &completion->buffers));
  js::check(env, napi_create_promise(env, &completion->deferred, &promise));
  request->context = completion.release();
  if (state.running++ == 0) js::check(env, napi_ref_threadsafe_function(env, state.finished));
  engine.submit(std::move(request));
  return promise;
}

napi_value profile(napi_env env, const Args& args) {
  bool on = false;
  if (napi_get_value_bool(env, args[1], &on) != napi_ok) throw std::runtime_error("profile: expected true or false");
  toProgram(env, args[0], "profile")->setProfile(on);
  return nullptr;
}

napi_value profileResult(napi_env env, const Args& args) {
  const std::vector<ProfileEntry> entries = toProgram(env, args[0], "profileResult")->profile();
  napi_value array;
  js::check(env, napi_create_array_with_length(env, entries.size(), &array));
  for (uint32_t i = 0; i < entries.size(); i++) {
    napi_value object;
    js::check(env, napi_create_object(env, &object));
    js::set(env, object, "label", js::fromString(env, entries[i].label));
    js::set(env, object, "kernel", js::fromString(env, entries[i].kernel));
    js::set(env, object, "seconds", js::fromDouble(env, entries[i].seconds));
    js::set(env, object, "calls", js::fromDouble(env, static_cast<double>(entries[i].calls)));
    js::set(env, object, "lastStart", js::fromDouble(env, entries[i].lastStart));
    js::set(env, object, "lastSeconds", js::fromDouble(env, entries[i].lastSeconds));
    js::check(env, napi_set_element(env, array, i, object));
  }
  return array;
}

template <double (*Measure)(double, int)>
napi_value measure(napi_env env, const Args& args) {
  const double seconds = js::toDouble(env, args[0], "seconds");
  const int64_t n = js::toInt(env, args[1], "threads");
  if (n < 1 || n > kMaxThreads) throw std::runtime_error("threads: expected 1 to " + std::to_string(kMaxThreads));
  return js::fromDouble(env, Measure(seconds, static_cast<int>(n)));
}

void releaseState(napi_env, void* data, void*) { delete static_cast<State*>(data); }

template <napi_value (*Function)(napi_env, const Args&)>
void define(napi_env env, napi_value exports, const char* name) {
  napi_value function;
  js::check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, js::call<Function>, nullptr, &function));
  js::set(env, exports, name, function);
}

}  // namespace

napi_value initAddon(napi_env env, napi_value exports) {
  try {
    auto state = std::make_unique<State>();
    state->env = env;
    js::check(env, napi_set_instance_data(env, state.get(), releaseState, nullptr));
    state.release();
    define<isa>(env, exports, "isa");
    define<features>(env, exports, "cpuFeatures");
    define<threads>(env, exports, "threads");
    define<setThreads>(env, exports, "setThreads");
    define<allocate>(env, exports, "allocate");
    define<mapFileToBuffer>(env, exports, "mapFile");
    define<kernels>(env, exports, "kernels");
    define<opcodes>(env, exports, "opcodes");
    define<createProgram>(env, exports, "createProgram");
    define<run>(env, exports, "run");
    define<profile>(env, exports, "profile");
    define<profileResult>(env, exports, "profileResult");
    define<measure<fmaPeak>>(env, exports, "fmaPeak");
    define<measure<bfloat16Peak>>(env, exports, "bfloat16Peak");
    define<measure<bandwidth>>(env, exports, "bandwidth");
  } catch (const js::Pending&) {
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return exports;
}

}  // namespace plinth
