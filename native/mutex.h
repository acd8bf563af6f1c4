// A lock where there are threads; nothing where the build has one thread only (WebAssembly).
#pragma once

#if defined(__wasm__)

namespace plinth {

struct Mutex {};
struct Lock {
  explicit Lock(Mutex&) {}
  ~Lock() {}
};

}  // namespace plinth

#else

#include <mutex>

namespace plinth {

using Mutex = std::mutex;
using Lock = std::lock_guard<std::mutex>;

}  // namespace plinth

#endif
