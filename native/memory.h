// Memory that kernels compute in, and files mapped into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace plinth {

constexpr size_t kAlignment = 64;

// Zeroed, 64-byte aligned, in huge pages where the system offers them. Throws std::bad_alloc.
void* allocateAligned(int64_t bytes);
void freeAligned(void* data, int64_t bytes);

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t bytes) : data_(allocateAligned(bytes)), bytes_(bytes) {}
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~AlignedBuffer() {
    if (data_ != nullptr) freeAligned(data_, bytes_);
  }
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void swap(AlignedBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// A file's bytes. Writes to them stay private to the process.
struct MappedFile {
  void* data = nullptr;
  int64_t bytes = 0;
};

// Throws std::runtime_error with the path and the system's reason.
MappedFile mapFile(const std::string& path);
void unmapFile(const MappedFile& file);

}  // namespace plinth
