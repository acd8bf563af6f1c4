// The engine's own thread: runs queued programs one after another, with the pool's help, away from the event loop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "program.h"
#include "thread_pool.h"

namespace plinth {

// One run of one program. `context` belongs to whoever asked for the run.
struct RunRequest {
  std::shared_ptr<Program> program;
  std::vector<void*> inputs, outputs;
  std::string error;  // empty: done
  void* context = nullptr;
};

class Engine {
 public:
  // `finished` is called on the engine's thread after each run.
  explicit Engine(std::function<void(std::unique_ptr<RunRequest>)> finished);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  ThreadPool& pool() { return pool_; }
  void submit(std::unique_ptr<RunRequest> request);
  // Ends after the instruction that is running; what is queued is dropped. No run may be submitted afterwards.
  void stop();
  bool isIdle();
  // Only while idle.
  void setThreads(int threads);

 private:
  void main();

  ThreadPool pool_;
  std::function<void(std::unique_ptr<RunRequest>)> finished_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<RunRequest>> queue_;
  bool busy_ = false;
  std::thread thread_;
};

// PLINTH_THREADS, or as many as the machine runs at once. Throws std::runtime_error naming the variable.
int configuredThreads();

constexpr int kMaxThreads = 1024;

}  // namespace plinth
