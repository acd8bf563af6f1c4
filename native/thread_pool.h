// Threads that share loops. Results never depend on how many there are: a task is a fixed piece of the output, whoever
// runs it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "shared_arena.h"

namespace plinth {

// Pieces of scratch memory that a thread can have in use at once.
inline constexpr int kScratchSlots = 6;

class ThreadPool {
 public:
  // `threads` counts the caller of parallelFor: threads - 1 workers are started, at the first loop.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Of the programs that run on these threads.
  const std::shared_ptr<SharedArena>& arena() const { return arena_; }

  int threads() const { return threads_; }
  // Only while no loop runs.
  void setThreads(int threads);

  // Calls fn(task) for every task in [0, nTasks), or fn(task, worker) with worker in [0, threads()), on all threads, and
  // returns when all are done. Tasks are claimed one by one in increasing order, so make them even and larger than some
  // 5 microseconds; they must write disjoint memory. A loop inside a loop runs on the calling thread alone. The first
  // exception is rethrown here.
  template <typename F>
  void parallelFor(int64_t nTasks, F&& fn) {
    using Fn = std::remove_reference_t<F>;
    run(nTasks, const_cast<void*>(static_cast<const void*>(&fn)), [](void* context, int64_t task, int worker) {
      if constexpr (std::is_invocable_v<Fn&, int64_t, int>) {
        (*static_cast<Fn*>(context))(task, worker);
      } else {
        (void)worker;
        (*static_cast<Fn*>(context))(task);
      }
    });
  }

  // Calls fn(begin, end) over [0, n) in pieces of `grain` items (the last may be smaller). The pieces depend on n and
  // grain alone, never on the number of threads.
  template <typename F>
  void parallelRange(int64_t n, int64_t grain, F&& fn) {
    if (n <= 0) return;
    grain = std::max<int64_t>(grain, 1);
    parallelFor((n + grain - 1) / grain,
                [&](int64_t task) { fn(task * grain, std::min(n, (task + 1) * grain)); });
  }

  // Memory of the calling thread, 64-byte aligned, kept between calls and not cleared. A later call on the same thread
  // with the same slot may return the same memory: one live use per slot and thread. Slots: 0 to kScratchSlots - 1.
  static void* scratch(int64_t bytes, int slot = 0);

 private:
  using Task = void (*)(void* context, int64_t task, int worker);
  struct State;

  void run(int64_t nTasks, void* context, Task task);

  int threads_;
  State* state_;
  std::shared_ptr<SharedArena> arena_ = std::make_shared<SharedArena>();
};

// Lets the operating system prefer every other thread (the event loop above all) over the calling one.
void lowerThreadPriority();

}  // namespace plinth
