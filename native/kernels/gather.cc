// Rows of a table by id, and the sum of rows back into a table. Contracts: KERNELS.md ("gather", "scatter_add").
#include <algorithm>
#include <cstring>
#include <string>

#include "../kernel.h"
#include "../simd.h"

namespace plinth {
namespace {

void checkId(const char* kernel, int64_t position, int32_t id, int64_t rows) {
  if (id >= 0 && id < rows) return;
  throw std::runtime_error(std::string(kernel) + ": id " + std::to_string(id) + " at position " +
                           std::to_string(position) + " is outside [0, " + std::to_string(rows) + ")");
}

void gather(const KernelArgs& args) {
  require(args.nIn == 2 && args.nOut == 1, "gather: expected table and ids, one output");
  const Tensor &table = args.in[0], &ids = args.in[1], &out = args.out[0];
  require(ids.dtype == DType::Int32 && table.rank >= 1, "gather: expected int32 ids and a table with rows");
  const int64_t rows = table.shape[0], n = ids.size();
  if (out.size() == 0 && rows == 0) return;
  const int64_t width = rows == 0 ? 0 : table.size() / rows;
  const bool same = table.dtype == out.dtype;
  require(same || (out.dtype == DType::Float32 && table.dtype != DType::Int32), "gather: expected the table's dtype or float32");
  const int64_t bytes = width * bytesOf(table.dtype);
  args.pool.parallelRange(n, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, bytes)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int32_t id = ids.as<int32_t>()[i];
      checkId("gather", i, id, rows);
      const char* from = table.as<char>() + id * bytes;
      if (same) {
        std::memcpy(out.as<char>() + i * bytes, from, static_cast<size_t>(bytes));
        continue;
      }
      float* to = out.as<float>() + i * width;
      for (int64_t k = 0; k < width; k++) {
        switch (table.dtype) {
          case DType::BFloat16: to[k] = bfloat16ToFloat(reinterpret_cast<const uint16_t*>(from)[k]); break;
          case DType::Float16: to[k] = float16ToFloat(reinterpret_cast<const uint16_t*>(from)[k]); break;
          default: to[k] = from[k] != 0 ? 1.0f : 0.0f;
        }
      }
    }
  });
}

// Each task owns some columns of the whole table and adds the updates in order of position, so no two tasks meet and the
// sums do not depend on how the columns are shared out.
void scatterAdd(const KernelArgs& args) {
  require((args.nIn == 2 || args.nIn == 3) && args.nOut == 1, "scatter_add: expected ids, updates and perhaps a base, one output");
  const Tensor &ids = args.in[0], &updates = args.in[1], &out = args.out[0];
  require(ids.dtype == DType::Int32 && updates.dtype == DType::Float32 && out.dtype == DType::Float32,
          "scatter_add: expected int32 ids and float32 updates");
  require(out.rank >= 1, "scatter_add: expected an output with rows");
  const int64_t rows = out.shape[0], n = ids.size(), size = out.size();
  require(rows == 0 ? updates.size() == 0 : updates.size() == n * (size / rows), "scatter_add: expected a row of updates for every id");
  const int32_t* id = ids.as<int32_t>();
  for (int64_t i = 0; i < n; i++) checkId("scatter_add", i, id[i], rows);
  float* table = out.as<float>();
  const float* base = nullptr;
  if (args.nIn == 3) {
    require(args.in[2].dtype == DType::Float32 && args.in[2].size() == size, "scatter_add: expected a base like the output");
    base = args.in[2].as<float>();
  }
  if (base != table) {
    args.pool.parallelRange(size, 1 << 18, [&](int64_t begin, int64_t end) {
      const auto bytes = static_cast<size_t>(end - begin) * 4;
      if (base == nullptr) std::memset(table + begin, 0, bytes);
      else std::memcpy(table + begin, base + begin, bytes);
    });
  }
  if (size == 0 || n == 0) return;
  const int64_t width = size / rows;
  // A cache line at least, and at most some sixteen tasks.
  const int64_t grain = std::max<int64_t>(64, (width + 15) / 16);
  args.pool.parallelRange(width, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < n; i++) {
      float* to = table + id[i] * width;
      const float* from = updates.as<float>() + i * width;
      for (int64_t k = begin; k < end; k += simd::kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(simd::kLanes, end - k));
        simd::storeUpTo(to + k, simd::loadUpTo(to + k, lanes) + simd::loadUpTo(from + k, lanes), lanes);
      }
    }
  });
}

PLINTH_KERNEL("gather", gather);
PLINTH_KERNEL("scatter_add", scatterAdd);

}  // namespace
}  // namespace plinth
