// The pool of one thread: every loop runs where it is called.
#include "thread_pool.h"

#include "memory.h"

namespace plinth {

ThreadPool::ThreadPool(int) : threads_(1), state_(nullptr) {}
ThreadPool::~ThreadPool() {}
void ThreadPool::setThreads(int) {}

void ThreadPool::run(int64_t nTasks, void* context, Task task) {
  for (int64_t i = 0; i < nTasks; i++) task(context, i, 0);
}

void* ThreadPool::scratch(int64_t bytes, int slot) {
  static AlignedBuffer buffers[kScratchSlots];
  AlignedBuffer& buffer = buffers[slot];
  if (buffer.bytes() < bytes) buffer = AlignedBuffer(bytes);
  return buffer.data();
}

void lowerThreadPriority() {}

}  // namespace plinth
