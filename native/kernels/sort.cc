// The first k of each row in order, with their positions. Contract: KERNELS.md ("sort").
#include <algorithm>
#include <vector>

#include "../kernel.h"

namespace plinth {
namespace {

struct Entry {
  float value;
  int32_t index;
};

// A total order: NaN above everything, equal values by position. So any algorithm gives the stable result.
template <bool Descending>
bool before(const Entry& a, const Entry& b) {
  const bool aNan = a.value != a.value, bNan = b.value != b.value;
  if (aNan || bNan) return aNan == bNan ? a.index < b.index : (Descending ? aNan : bNan);
  if (a.value == b.value) return a.index < b.index;
  return Descending ? a.value > b.value : a.value < b.value;
}

template <bool Descending>
void sortRow(std::vector<Entry>& row, int64_t k) {
  const auto n = static_cast<int64_t>(row.size());
  // A few of many: a heap of them; nearly all: everything.
  if (k < n / 8) std::partial_sort(row.begin(), row.begin() + k, row.end(), before<Descending>);
  else std::sort(row.begin(), row.end(), before<Descending>);
}

void sort(const KernelArgs& args) {
  require(args.nIn == 1 && args.nOut == 2 && args.nInts == 1, "sort: expected one input, values and indices, [descending]");
  const Tensor &x = args.in[0], &values = args.out[0], &indices = args.out[1];
  require(x.dtype == DType::Float32 && values.dtype == DType::Float32 && indices.dtype == DType::Int32 && x.rank >= 1,
          "sort: expected float32 rows, to float32 and int32");
  const int64_t n = x.last(0), k = values.last(0), rows = values.rows();
  require(k <= n, "sort: expected at most as many results as a row has");
  if (k == 0) return;
  args.pool.parallelRange(rows, std::max<int64_t>(1, 4096 / n), [&](int64_t begin, int64_t end) {
    std::vector<Entry> row(static_cast<size_t>(n));
    for (int64_t r = begin; r < end; r++) {
      for (int64_t i = 0; i < n; i++) row[static_cast<size_t>(i)] = {x.as<float>()[r * n + i], static_cast<int32_t>(i)};
      if (args.ints[0] != 0) sortRow<true>(row, k);
      else sortRow<false>(row, k);
      for (int64_t i = 0; i < k; i++) {
        values.as<float>()[r * k + i] = row[static_cast<size_t>(i)].value;
        indices.as<int32_t>()[r * k + i] = row[static_cast<size_t>(i)].index;
      }
    }
  });
}

PLINTH_KERNEL("sort", sort);

}  // namespace
}  // namespace plinth
