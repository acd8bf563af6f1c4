#include "memory.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__wasm__)
// One memory, no files.
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace plinth {
namespace {

#if defined(__SANITIZE_ADDRESS__)
// Always from the heap, where the sanitizer sees what lies beyond.
constexpr int64_t kMapThreshold = INT64_MAX;
#elif !defined(_WIN32) && !defined(__wasm__)
// From here on memory comes as pages of its own: zeroed by the system when first touched, and given back at once.
constexpr int64_t kMapThreshold = 1 << 20;
#endif

[[noreturn]] [[maybe_unused]] void fail(const std::string& path, int error) {
  throw std::runtime_error(path + ": " + std::strerror(error));
}

}  // namespace

void* allocateAligned(int64_t bytes) {
  if (bytes <= 0) bytes = 1;
#if defined(_WIN32)
  void* data = _aligned_malloc(static_cast<size_t>(bytes), kAlignment);
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, static_cast<size_t>(bytes));
  return data;
#else
#if !defined(__wasm__)
  if (bytes >= kMapThreshold) {
    void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
    return data;
  }
#endif
  void* data = nullptr;
  if (static_cast<uint64_t>(bytes) > SIZE_MAX - kAlignment) throw std::bad_alloc();
  if (posix_memalign(&data, kAlignment, static_cast<size_t>(bytes)) != 0) {
#if defined(__wasm__)
    // Nothing catches (wasm/module.cc): this is what the user reads.
    throw std::runtime_error("out of memory: WebAssembly cannot allocate " + std::to_string(bytes) +
                             " bytes more. Fix: use a smaller batch or context");
#else
    throw std::bad_alloc();
#endif
  }
  std::memset(data, 0, static_cast<size_t>(bytes));
  return data;
#endif
}

void freeAligned(void* data, int64_t bytes) {
#if defined(_WIN32)
  (void)bytes;
  _aligned_free(data);
#elif defined(__wasm__)
  (void)bytes;
  std::free(data);
#else
  if (bytes >= kMapThreshold) {
    munmap(data, static_cast<size_t>(bytes));
  } else {
    std::free(data);
  }
#endif
}

#if !defined(__wasm__)
MappedFile mapFile(const std::string& path) {
#if defined(_WIN32)
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail(path, errno);
  _fseeki64(file, 0, SEEK_END);
  MappedFile result;
  result.bytes = _ftelli64(file);
  _fseeki64(file, 0, SEEK_SET);
  result.data = allocateAligned(result.bytes);
  const size_t read = std::fread(result.data, 1, static_cast<size_t>(result.bytes), file);
  std::fclose(file);
  if (read != static_cast<size_t>(result.bytes)) {
    freeAligned(result.data, result.bytes);
    fail(path, EIO);
  }
  return result;
#else
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(path, errno);
  struct stat status;
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    const int error = S_ISDIR(status.st_mode) ? EISDIR : errno != 0 ? errno : EINVAL;
    close(descriptor);
    fail(path, error);
  }
  MappedFile result;
  result.bytes = status.st_size;
  if (result.bytes > 0) {
    // Writable but private, and nothing reserved for copies: weights are hardly ever written to in place.
    const int flags = MAP_PRIVATE | MAP_NORESERVE;
    void* data = mmap(nullptr, static_cast<size_t>(result.bytes), PROT_READ | PROT_WRITE, flags, descriptor, 0);
    const int error = errno;
    if (data == MAP_FAILED) {
      close(descriptor);
      fail(path, error);
    }
    result.data = data;
  }
  close(descriptor);
  return result;
#endif
}

void unmapFile(const MappedFile& file) {
  if (file.data == nullptr) return;
#if defined(_WIN32)
  freeAligned(file.data, file.bytes);
#else
  munmap(file.data, static_cast<size_t>(file.bytes));
#endif
}
#endif

}  // namespace plinth
