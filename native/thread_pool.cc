#include "thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "memory.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <pthread/qos.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace plinth {
namespace {

thread_local bool insideLoop = false;

inline void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  asm volatile("yield");
#endif
}

// Instructions of a program follow each other within microseconds, and waking a thread costs tens of them: wait a
// little before sleeping.
constexpr auto kSpin = std::chrono::microseconds(60);

// `isVain`: nothing will come of it, since those waited for cannot run meanwhile.
template <typename Ready, typename IsVain>
bool spinUntil(Ready&& ready, IsVain&& isVain) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; i++) {
      if (ready()) return true;
      pause();
    }
  } while (!isVain() && std::chrono::steady_clock::now() < deadline);
  return ready();
}

// Schedulers place a woken thread by how idle processors look at that moment, and take milliseconds to part two threads
// that share one: longer than most loops. So where the system says which processor a thread is on, workers are kept off
// the caller's.
#if defined(__linux__)
using ThreadId = pid_t;
ThreadId threadId() { return static_cast<ThreadId>(syscall(SYS_gettid)); }
int processor() { return sched_getcpu(); }
void keepOff(ThreadId thread, int cpu) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2 || cpu >= CPU_SETSIZE) return;
  CPU_CLR(static_cast<size_t>(cpu), &set);
  sched_setaffinity(thread, sizeof set, &set);
}
#else
using ThreadId = int;
ThreadId threadId() { return 0; }
int processor() { return -1; }
void keepOff(ThreadId, int) {}
#endif

constexpr uint64_t kLeft = 0xffffffffu;

}  // namespace

void lowerThreadPriority() {
#if defined(__linux__)
  // On Linux a nice value belongs to a thread. A little down is enough for the event loop to run as soon as it wants to;
  // further down, any other busy program would bring training to a halt.
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 5);
#elif defined(__APPLE__)
  pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
#elif defined(_WIN32)
  SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL);
#endif
}

struct ThreadPool::State {
  struct Job {
    Task task;
    void* context;
    int64_t nTasks;
  };

  struct Place {
    std::atomic<ThreadId> thread{0};
    std::atomic<int> processor{-1};  // when it last began a task
  };

  std::vector<std::thread> workers;
  std::unique_ptr<Place[]> places;  // of the caller, then of the workers
  int nPlaces = 0;
  int avoided = -1;  // the processor that the workers are kept off
  Job job{};
  // High half: loop number; low half: tasks not yet claimed. A successful claim pins the job until the task is done.
  alignas(64) std::atomic<uint64_t> claims{0};
  alignas(64) std::atomic<int64_t> pending{0};
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> callerSleeps{false};
  std::atomic<bool> failed{false};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::exception_ptr failure;

  void start(int threads) {
    stop = false;
    places = std::make_unique<Place[]>(static_cast<size_t>(threads));
    nPlaces = threads;
    avoided = -1;
    for (int worker = 1; worker < threads; worker++) workers.emplace_back([this, worker] { main(worker); });
  }

  void join() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (std::thread& worker : workers) worker.join();
    workers.clear();
  }

  void main(int worker) {
    lowerThreadPriority();
    places[worker].thread = threadId();
    const auto ready = [this] { return (claims.load(std::memory_order_seq_cst) & kLeft) != 0 || stop.load(); };
    for (;;) {
      const auto isVain = [this] {
        const int here = processor();
        return here >= 0 && here == places[0].processor.load(std::memory_order_relaxed);
      };
      if (!spinUntil(ready, isVain)) {
        std::unique_lock<std::mutex> lock(mutex);
        sleepers.fetch_add(1, std::memory_order_seq_cst);
        wake.wait(lock, ready);
        sleepers.fetch_sub(1, std::memory_order_relaxed);
      }
      if (stop) return;
      work(worker);
    }
  }

  // Parts the caller and the workers, wherever they are now.
  void place() {
    const int here = processor();
    places[0].processor.store(here, std::memory_order_relaxed);
    if (here == avoided) return;
    for (int worker = 1; worker < nPlaces; worker++) {
      const ThreadId thread = places[worker].thread;
      if (thread == 0) return;  // has yet to start
      keepOff(thread, here);
    }
    avoided = here;
  }

  bool sharesProcessor() const {
    const int here = processor();
    for (int worker = 1; worker < nPlaces; worker++) {
      if (here >= 0 && places[worker].processor.load(std::memory_order_relaxed) == here) return true;
    }
    return false;
  }

  // Claims and runs tasks until none is left.
  void work(int worker) {
    insideLoop = true;
    places[worker].processor.store(processor(), std::memory_order_relaxed);
    uint64_t claim = claims.load(std::memory_order_acquire);
    while ((claim & kLeft) != 0) {
      if (!claims.compare_exchange_weak(claim, claim - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      if (!failed.load(std::memory_order_relaxed)) {
        try {
          job.task(job.context, job.nTasks - static_cast<int64_t>(claim & kLeft), worker);
        } catch (...) {
          std::lock_guard<std::mutex> lock(mutex);
          if (!failure) failure = std::current_exception();
          failed = true;
        }
      }
      if (pending.fetch_sub(1, std::memory_order_seq_cst) == 1 && callerSleeps.load(std::memory_order_seq_cst)) {
        { std::lock_guard<std::mutex> lock(mutex); }
        done.notify_one();
      }
      claim = claims.load(std::memory_order_acquire);
    }
    insideLoop = false;
  }
};

ThreadPool::ThreadPool(int threads) : threads_(std::max(threads, 1)), state_(new State) {}

ThreadPool::~ThreadPool() {
  state_->join();
  delete state_;
}

void ThreadPool::setThreads(int threads) {
  threads = std::max(threads, 1);
  if (threads == threads_) return;
  state_->join();
  threads_ = threads;
}

void ThreadPool::run(int64_t nTasks, void* context, Task task) {
  if (nTasks <= 0) return;
  if (nTasks == 1 || threads_ == 1 || insideLoop) {
    for (int64_t i = 0; i < nTasks; i++) task(context, i, 0);
    return;
  }
  if (nTasks > static_cast<int64_t>(kLeft)) throw std::length_error("parallelFor: too many tasks");
  State& s = *state_;
  if (s.workers.empty()) s.start(threads_);
  s.place();

  s.job = {task, context, nTasks};
  s.failure = nullptr;
  s.failed = false;
  s.pending.store(nTasks, std::memory_order_relaxed);
  const uint64_t loop = (s.claims.load(std::memory_order_relaxed) >> 32) + 1;
  s.claims.store(loop << 32 | static_cast<uint64_t>(nTasks), std::memory_order_seq_cst);
  if (s.sleepers.load(std::memory_order_seq_cst) > 0) {
    { std::lock_guard<std::mutex> lock(s.mutex); }
    s.wake.notify_all();
  }
  s.work(0);
  const auto finished = [&s] { return s.pending.load(std::memory_order_seq_cst) == 0; };
  if (!spinUntil(finished, [&s] { return s.sharesProcessor(); })) {
    std::unique_lock<std::mutex> lock(s.mutex);
    s.callerSleeps = true;
    s.done.wait(lock, finished);
    s.callerSleeps = false;
  }
  if (s.failure) std::rethrow_exception(s.failure);
}

void* ThreadPool::scratch(int64_t bytes, int slot) {
  thread_local AlignedBuffer buffers[kScratchSlots];
  AlignedBuffer& buffer = buffers[slot];
  if (buffer.bytes() < bytes) buffer = AlignedBuffer(bytes);
  return buffer.data();
}

}  // namespace plinth
