// Matrix product a[..., M, K] x b[..., K, N] -> float32[..., M, N], after Goto & van de Geijn (2008): operands are packed
// into panels that the register tile reads in order; the packed pieces are shared by all threads.
#include <algorithm>
#include <cstring>

#include "kernel.h"
#include "kernels/matmul_pack.h"
#include "kernels/matmul_tile.h"

namespace plinth {
namespace matmul {

namespace {

template <int Index = 0>
Tile pickTile(int height, int vectors) {
  if constexpr (Index < static_cast<int>(std::size(kHeights))) {
    if (kHeights[Index] == height) return vectors == 1 ? tile<kHeights[Index], 1> : tile<kHeights[Index], kNv>;
    return pickTile<Index + 1>(height, vectors);
  } else {
    return nullptr;
  }
}

// One product of matrices; `a` has M lines, `b` has N lines.
struct Product {
  int64_t M, N, K;
  Operand a, b;
  float* c;
  int64_t strideC;
};

// Sizes of the packed pieces of B and A (in lines): together a few megabytes.
constexpr int64_t kPieceN = 2048 / kNr * kNr;
constexpr int64_t kPieceM = 2048 / kMr * kMr;

// Work of one task in multiply-adds, when there is enough for all: some 50 microseconds.
constexpr int64_t kTaskWork = int64_t{1} << 22;
constexpr int64_t kPackWork = int64_t{1} << 15;

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int heightFor(int64_t lines) {
  for (const int height : kHeights) {
    if (height >= lines) return height;
  }
  return kMr;
}

// Where a panel of A or B starts: all but the last have full width.
struct Panels {
  float* data;
  int64_t lines;
  int fullWidth;
  int64_t stride;

  int64_t count() const { return ceilDiv(lines, fullWidth); }
  float* at(int64_t panel) const { return data + panel * stride; }
  int64_t linesOf(int64_t panel) const { return std::min<int64_t>(fullWidth, lines - panel * fullWidth); }
};

int widthA(int64_t lines) { return heightFor(lines); }
int widthB(int64_t lines) { return lines <= kLanes ? kLanes : kNr; }

// c[panels of a, panels of b] (+)= packed a x packed b.
void multiplyPanels(const Panels& a, const Panels& b, int64_t aFrom, int64_t aTo, int64_t bFrom, int64_t bTo, int64_t kc,
                    float* c, int64_t strideC, bool add) {
  for (int64_t j = bFrom; j < bTo; j++) {
    const int64_t columns = b.linesOf(j);
    const int vectors = columns <= kLanes ? 1 : kNv;
    for (int64_t i = aFrom; i < aTo; i++) {
      const int64_t rows = a.linesOf(i);
      pickTile(heightFor(rows), vectors)(kc, a.at(i), b.at(j), c + i * kMr * strideC + j * kNr, strideC,
                                        static_cast<int>(rows), static_cast<int>(columns), add);
    }
  }
}

// Tasks over a grid of panels: pieces of about kTaskWork, smaller ones when threads would idle.
struct Grid {
  int64_t aStep, bStep, aTasks, bTasks;
};

Grid planGrid(int64_t aPanels, int64_t bPanels, int64_t kc, int threads) {
  const int64_t tileWork = static_cast<int64_t>(kMr) * kNr * kc;
  const int64_t tiles = aPanels * bPanels;
  int64_t perTask = std::max<int64_t>(1, kTaskWork / tileWork);
  perTask = std::min(perTask, std::max<int64_t>(1, tiles / (int64_t{4} * threads)));
  perTask = std::max(perTask, std::max<int64_t>(1, (int64_t{1} << 18) / tileWork));
  Grid grid;
  grid.aStep = std::min<int64_t>(aPanels, 8);
  grid.bStep = std::min(bPanels, std::max<int64_t>(1, perTask / grid.aStep));
  if (grid.bStep == 1) grid.aStep = std::min(aPanels, std::min<int64_t>(8, std::max<int64_t>(1, perTask)));
  grid.aTasks = ceilDiv(aPanels, grid.aStep);
  grid.bTasks = ceilDiv(bPanels, grid.bStep);
  return grid;
}

void zeroRows(const Product& p) {
  for (int64_t i = 0; i < p.M; i++) std::memset(p.c + i * p.strideC, 0, static_cast<size_t>(p.N) * sizeof(float));
}

void multiply(const Product& p, ThreadPool& pool) {
  if (p.M == 0 || p.N == 0) return;
  if (p.K == 0) return zeroRows(p);
  const int64_t kcMax = std::min(p.K, kBlockK);
  const int64_t aLines = std::min(p.M, kPieceM), bLines = std::min(p.N, kPieceN);
  const int64_t aFloats = ceilDiv(aLines, kMr) * panelFloats(kMr, kcMax);
  const int64_t bFloats = ceilDiv(bLines, kNr) * panelFloats(kNr, kcMax);
  float* packedB = static_cast<float*>(ThreadPool::scratch(bFloats * 4, 0));
  float* packedA = static_cast<float*>(ThreadPool::scratch(aFloats * 4, 1));

  for (int64_t n = 0; n < p.N; n += kPieceN) {
    for (int64_t k = 0; k < p.K; k += kBlockK) {
      const int64_t kc = std::min(p.K - k, kBlockK);
      const Panels b{packedB, std::min(p.N - n, kPieceN), kNr, panelFloats(kNr, kc)};
      const int64_t bGroup = std::max<int64_t>(1, kPackWork / (kNr * kc));
      for (int64_t m = 0; m < p.M; m += kPieceM) {
        const Panels a{packedA, std::min(p.M - m, kPieceM), kMr, panelFloats(kMr, kc)};
        const int64_t aGroup = std::max<int64_t>(1, kPackWork / (kMr * kc));
        const int64_t bPacks = m == 0 ? ceilDiv(b.count(), bGroup) : 0;
        const int64_t aPacks = ceilDiv(a.count(), aGroup);
        pool.parallelFor(bPacks + aPacks, [&](int64_t task) {
          if (task < bPacks) {
            for (int64_t j = task * bGroup; j < std::min(b.count(), (task + 1) * bGroup); j++) {
              pack(p.b, n + j * kNr, b.linesOf(j), k, kc, widthB(b.linesOf(j)), b.at(j));
            }
          } else {
            task -= bPacks;
            for (int64_t i = task * aGroup; i < std::min(a.count(), (task + 1) * aGroup); i++) {
              pack(p.a, m + i * kMr, a.linesOf(i), k, kc, widthA(a.linesOf(i)), a.at(i));
            }
          }
        });
        const Grid grid = planGrid(a.count(), b.count(), kc, pool.threads());
        float* c = p.c + m * p.strideC + n;
        pool.parallelFor(grid.aTasks * grid.bTasks, [&](int64_t task) {
          const int64_t i = task / grid.bTasks * grid.aStep, j = task % grid.bTasks * grid.bStep;
          multiplyPanels(a, b, i, std::min(a.count(), i + grid.aStep), j, std::min(b.count(), j + grid.bStep), kc, c,
                         p.strideC, k > 0);
        });
      }
    }
  }
}

// Batch axes with their strides for a, b and c; equal neighbours merged by the caller where that is possible.
struct Batch {
  int rank = 0;
  int64_t sizes[kMaxRank], a[kMaxRank], b[kMaxRank], c[kMaxRank];
  int64_t count = 1;
};

}  // namespace
}  // namespace matmul

static void matmulKernel(const KernelArgs& args) {
  using namespace matmul;
  require(args.nIn == 2 && args.nOut == 1, "matmul: expected two inputs and one output");
  const Tensor &a = args.in[0], &b = args.in[1], &c = args.out[0];
  const int r = c.rank;
  const auto isFloat = [](DType t) { return t == DType::Float32 || t == DType::BFloat16 || t == DType::Float16; };
  require(r >= 2 && a.rank == r && b.rank == r, "matmul: expected operands of equal rank, at least 2");
  require(isFloat(a.dtype) && isFloat(b.dtype) && c.dtype == DType::Float32, "matmul: expected floats, to float32");
  require(a.shape[r - 2] == c.shape[r - 2] && b.shape[r - 1] == c.shape[r - 1] && a.shape[r - 1] == b.shape[r - 2],
          "matmul: expected a[..., M, K], b[..., K, N] and out[..., M, N]");
  Product p{c.shape[r - 2], c.shape[r - 1], a.shape[r - 1],
            {static_cast<const char*>(a.data), a.dtype, a.strides[r - 2], a.strides[r - 1]},
            {static_cast<const char*>(b.data), b.dtype, b.strides[r - 1], b.strides[r - 2]},
            c.as<float>(), c.shape[r - 1]};
  Batch batch;
  for (int i = r - 3; i >= 0; i--) {
    const int64_t n = c.shape[i];
    require(a.shape[i] == n && b.shape[i] == n, "matmul: expected equal batch axes");
    if (n == 1) continue;
    const int64_t stepA = a.strides[i], stepB = b.strides[i];
    // The same b for all: more rows of one product.
    if (batch.rank == 0 && stepB == 0 && (p.M == 1 || stepA == p.M * p.a.lineStride)) {
      if (p.M == 1) p.a.lineStride = stepA;
      p.M *= n;
      continue;
    }
    int64_t stepC = p.N;
    for (int axis = i + 1; axis < r - 1; axis++) stepC *= c.shape[axis];
    batch.sizes[batch.rank] = n;
    batch.a[batch.rank] = stepA;
    batch.b[batch.rank] = stepB;
    batch.c[batch.rank] = stepC;
    batch.rank++;
    batch.count *= n;
  }
  const auto item = [&](int64_t index) {
    Product q = p;
    for (int i = 0; i < batch.rank; i++) {
      const int64_t at = index % batch.sizes[i];
      index /= batch.sizes[i];
      q.a.data += at * batch.a[i] * bytesOf(q.a.dtype);
      q.b.data += at * batch.b[i] * bytesOf(q.b.dtype);
      q.c += at * batch.c[i];
    }
    return q;
  };
  const int64_t work = p.M * p.N * p.K;
  const int threads = args.pool.threads();
  if (batch.count > 1 && (work < kTaskWork || batch.count >= 8 * threads)) {
    const int64_t group = std::max<int64_t>(1, std::min(kTaskWork / 8 / std::max<int64_t>(work, 1), batch.count));
    args.pool.parallelRange(batch.count, group, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) multiply(item(i), args.pool);
    });
  } else {
    for (int64_t i = 0; i < batch.count; i++) multiply(item(i), args.pool);
  }
}

PLINTH_KERNEL("matmul", matmulKernel);

}  // namespace plinth
