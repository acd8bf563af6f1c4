// Memory for intermediate values, shared by the programs of one engine: they run one after another, and nothing in it
// outlives a run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>

#include "memory.h"
#include "mutex.h"

namespace plinth {

class SharedArena {
 public:
  // A program that needs so many bytes exists from `join` to `leave`. Any thread.
  void join(int64_t bytes) {
    Lock lock(mutex_);
    needs_.insert(bytes);
  }
  void leave(int64_t bytes) {
    Lock lock(mutex_);
    needs_.erase(needs_.find(bytes));
  }

  // At least so many bytes, valid until the next call; grows when it must, and shrinks when no program that exists needs
  // so much. Only the thread that runs programs. Throws std::bad_alloc.
  char* reserve(int64_t bytes) {
    bytes = std::max<int64_t>(bytes, kAlignment);
    if (buffer_.bytes() < bytes || buffer_.bytes() > std::max(bytes, largestNeed())) {
      // The old one goes first: both together may not fit.
      buffer_ = AlignedBuffer();
      buffer_ = AlignedBuffer(bytes);
    }
    return static_cast<char*>(buffer_.data());
  }

 private:
  int64_t largestNeed() {
    Lock lock(mutex_);
    return needs_.empty() ? 0 : *needs_.rbegin();
  }

  Mutex mutex_;
  std::multiset<int64_t> needs_;
  AlignedBuffer buffer_;
};

}  // namespace plinth
