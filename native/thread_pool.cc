#include "thread_pool.h"

#include <chrono>

#include "memory.h"

#if defined(__linux__)
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

template <typename Ready>
bool spinUntil(Ready&& ready) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; i++) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return ready();
}

constexpr uint64_t kLeft = 0xffffffffu;

}  // namespace

void lowerThreadPriority() {
#if defined(__linux__)
  // On Linux a nice value belongs to a thread. Half-way down: the event loop runs when it wants to, while other
  // programs of normal priority do not stop training.
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 10);
#elif defined(__APPLE__)
  pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
#elif defined(_WIN32)
  SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL);
#endif
}

ThreadPool::ThreadPool(int threads) : threads_(std::max(threads, 1)) {}

ThreadPool::~ThreadPool() { stopWorkers(); }

void ThreadPool::setThreads(int threads) {
  threads = std::max(threads, 1);
  if (threads == threads_) return;
  stopWorkers();
  threads_ = threads;
}

void ThreadPool::startWorkers() {
  stop_ = false;
  for (int worker = 1; worker < threads_; worker++) {
    workers_.emplace_back([this, worker] { workerMain(worker); });
  }
}

void ThreadPool::stopWorkers() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run(int64_t nTasks, void* context, Task task) {
  if (nTasks <= 0) return;
  if (nTasks == 1 || threads_ == 1 || insideLoop) {
    for (int64_t i = 0; i < nTasks; i++) task(context, i, 0);
    return;
  }
  if (nTasks > static_cast<int64_t>(kLeft)) throw std::length_error("parallelFor: too many tasks");
  if (workers_.empty()) startWorkers();

  job_ = {task, context, nTasks};
  failure_ = nullptr;
  failed_ = false;
  pending_.store(nTasks, std::memory_order_relaxed);
  const uint64_t loop = (claims_.load(std::memory_order_relaxed) >> 32) + 1;
  claims_.store(loop << 32 | static_cast<uint64_t>(nTasks), std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  work(0);
  const auto finished = [this] { return pending_.load(std::memory_order_seq_cst) == 0; };
  if (!spinUntil(finished)) {
    std::unique_lock<std::mutex> lock(mutex_);
    callerSleeps_ = true;
    done_.wait(lock, finished);
    callerSleeps_ = false;
  }
  if (failure_) std::rethrow_exception(failure_);
}

void ThreadPool::work(int worker) {
  insideLoop = true;
  uint64_t claim = claims_.load(std::memory_order_acquire);
  while ((claim & kLeft) != 0) {
    if (!claims_.compare_exchange_weak(claim, claim - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    if (!failed_.load(std::memory_order_relaxed)) {
      try {
        job_.task(job_.context, job_.nTasks - static_cast<int64_t>(claim & kLeft), worker);
      } catch (...) {
        capture();
      }
    }
    if (pending_.fetch_sub(1, std::memory_order_seq_cst) == 1 && callerSleeps_.load(std::memory_order_seq_cst)) {
      { std::lock_guard<std::mutex> lock(mutex_); }
      done_.notify_one();
    }
    claim = claims_.load(std::memory_order_acquire);
  }
  insideLoop = false;
}

void ThreadPool::capture() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!failure_) failure_ = std::current_exception();
  failed_ = true;
}

void ThreadPool::workerMain(int worker) {
  lowerThreadPriority();
  const auto ready = [this] { return (claims_.load(std::memory_order_seq_cst) & kLeft) != 0 || stop_.load(); };
  for (;;) {
    if (!spinUntil(ready)) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, ready);
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    if (stop_) return;
    work(worker);
  }
}

void* ThreadPool::scratch(int64_t bytes, int slot) {
  thread_local AlignedBuffer buffers[4];
  AlignedBuffer& buffer = buffers[slot];
  if (buffer.bytes() < bytes) buffer = AlignedBuffer(bytes);
  return buffer.data();
}

}  // namespace plinth
