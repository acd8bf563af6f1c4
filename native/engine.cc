#include "engine.h"

#include <cstdlib>
#include <stdexcept>

#include "cpu.h"

namespace plinth {

int configuredThreads() {
  const char* text = std::getenv("PLINTH_THREADS");
  if (text == nullptr || *text == '\0') return availableThreads();
  char* end = nullptr;
  const long threads = std::strtol(text, &end, 10);
  if (*end != '\0' || threads < 1 || threads > kMaxThreads) {
    throw std::runtime_error("PLINTH_THREADS: expected a whole number from 1 to " + std::to_string(kMaxThreads) +
                             ", got \"" + text + "\". Fix: unset it to use all processors.");
  }
  return static_cast<int>(threads);
}

Engine::Engine(std::function<void(std::unique_ptr<RunRequest>)> finished)
    : pool_(configuredThreads()), finished_(std::move(finished)) {}

Engine::~Engine() { stop(); }

void Engine::submit(std::unique_ptr<RunRequest> request) {
  std::lock_guard<std::mutex> lock(mutex_);
  queue_.push_back(std::move(request));
  if (!thread_.joinable()) thread_ = std::thread([this] { main(); });
  wake_.notify_one();
}

void Engine::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  queue_.clear();
}

bool Engine::isIdle() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !busy_ && queue_.empty();
}

void Engine::setThreads(int threads) { pool_.setThreads(threads); }

void Engine::main() {
  lowerThreadPriority();
  for (;;) {
    std::unique_ptr<RunRequest> request;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return cancelled_ || !queue_.empty(); });
      if (cancelled_) return;
      request = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
    }
    try {
      request->program->run(request->inputs, request->outputs, cancelled_);
    } catch (const std::exception& error) {
      request->error = error.what();
      if (request->error.empty()) request->error = "unknown failure";
    }
    if (cancelled_) return;
    {
      // Before the promise settles: whoever awaited it may change the number of threads.
      std::lock_guard<std::mutex> lock(mutex_);
      busy_ = false;
    }
    finished_(std::move(request));
  }
}

}  // namespace plinth
