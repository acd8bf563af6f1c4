// New rows into a cache, in place, at a position known only when the program runs. Contract: KERNELS.md ("cache_update").
#include <algorithm>
#include <cstring>
#include <string>

#include "../kernel.h"

namespace plinth {
namespace {

// Copies a strided window of `rank` axes to row-major memory.
void copyWindow(const char* from, const int64_t* shape, const int64_t* strides, int rank, int64_t bytes, char*& to) {
  if (rank == 0) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
    to += bytes;
    return;
  }
  if (rank == 1 && strides[0] == 1) {
    std::memcpy(to, from, static_cast<size_t>(shape[0] * bytes));
    to += shape[0] * bytes;
    return;
  }
  for (int64_t i = 0; i < shape[0]; i++) {
    copyWindow(from + i * strides[0] * bytes, shape + 1, strides + 1, rank - 1, bytes, to);
  }
}

void cacheUpdate(const KernelArgs& args) {
  require(args.nIn == 3 && args.nOut == 1, "cache_update: expected x, update and start, one output");
  const Tensor &x = args.in[0], &update = args.in[1], &start = args.in[2], &out = args.out[0];
  require(x.rank >= 2 && update.rank == x.rank, "cache_update: expected x[B,S,...] and update[B,T,...]");
  require(update.dtype == out.dtype && x.dtype == out.dtype && start.dtype == DType::Int32,
          "cache_update: expected one dtype for x and update, int32 start");
  const int64_t batch = x.shape[0], length = x.shape[1], count = update.shape[1];
  bool fits = out.rank == x.rank && start.rank == 1 && start.shape[0] == batch && update.shape[0] == batch;
  for (int i = 0; i < x.rank; i++) {
    fits = fits && out.rank == x.rank && out.shape[i] == x.shape[i] && (i < 2 || update.shape[i] == x.shape[i]);
  }
  require(fits, "cache_update: expected update[B,T,...] and start[B] for x[B,S,...], and an output like x");
  const int64_t bytes = bytesOf(out.dtype);
  const int64_t row = batch * length == 0 ? 0 : out.size() / (batch * length) * bytes;
  if (x.data != out.data) {
    args.pool.parallelRange(out.size() * bytes, 1 << 20, [&](int64_t begin, int64_t end) {
      std::memcpy(out.as<char>() + begin, x.as<char>() + begin, static_cast<size_t>(end - begin));
    });
  }
  for (int64_t b = 0; b < batch; b++) {
    const int64_t first = start.as<int32_t>()[b];
    require(first >= 0 && first + count <= length,
            "cache_update: rows " + std::to_string(first) + " to " + std::to_string(first + count) + " of batch row " +
                std::to_string(b) + " are outside a cache of length " + std::to_string(length));
  }
  if (update.size() == 0) return;
  args.pool.parallelRange(batch * count, std::max<int64_t>(1, 65536 / row), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t b = i / count, t = i % count;
      char* to = out.as<char>() + (b * length + start.as<int32_t>()[b] + t) * row;
      const char* from = update.as<char>() + (b * update.strides[0] + t * update.strides[1]) * bytes;
      copyWindow(from, update.shape + 2, update.strides + 2, update.rank - 2, bytes, to);
    }
  });
}

PLINTH_KERNEL("cache_update", cacheUpdate);

}  // namespace
}  // namespace plinth
