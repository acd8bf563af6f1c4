// Matrix product a[..., M, K] x b[..., K, N] -> float32[..., M, N], after Goto & van de Geijn (2008): operands are packed
// into panels that the register tile reads in order; the packed pieces are shared by all threads.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "kernel.h"
#include "kernels/matmul.h"
#include "kernels/matmul_epilogue.h"

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

// Sizes of the packed pieces of B and A (in lines): together a few megabytes.
constexpr int64_t kPieceN = 2048 / kNr * kNr;
constexpr int64_t kPieceM = 2048 / kMr * kMr;

// Up to so many rows b is packed by the task that uses it.
constexpr int64_t kThinRows = 4 * kMr;

// Work of one task in multiply-adds, when there is enough for all: some 50 microseconds.
constexpr int64_t kTaskWork = int64_t{1} << 22;
constexpr int64_t kPackWork = int64_t{1} << 15;
// Enough that no thread waits long for the last task of another.
constexpr int64_t kTasksPerThread = 16;

// c[panels of a, panels of b] (+)= packed a x packed b.
void multiplyPanels(const Panels& a, const Panels& b, int64_t aFrom, int64_t aTo, int64_t bFrom, int64_t bTo, int64_t kc,
                    float* c, int64_t strideC, bool add) {
  for (int64_t j = bFrom; j < bTo; j++) {
    const int64_t columns = b.linesOf(j);
    const int vectors = columns <= kLanes ? 1 : kNv;
    for (int64_t i = aFrom; i < aTo; i++) {
      const int64_t rows = a.linesOf(i);
      pickTile(heightFor(rows), vectors)(kc, a.at(i), b.at(j), c + i * a.fullWidth * strideC + j * kNr, strideC,
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
  perTask = std::min(perTask, std::max<int64_t>(1, tiles / (kTasksPerThread * threads)));
  perTask = std::max(perTask, kTaskWork / 8 / tileWork);
  Grid grid;
  grid.aStep = std::min<int64_t>(aPanels, 8);
  grid.bStep = std::min(bPanels, std::max<int64_t>(1, perTask / grid.aStep));
  if (grid.bStep == 1) grid.aStep = std::min(aPanels, std::min<int64_t>(8, std::max<int64_t>(1, perTask)));
  grid.aTasks = ceilDiv(aPanels, grid.aStep);
  grid.bTasks = ceilDiv(bPanels, grid.bStep);
  return grid;
}

// Packing cut into tasks: by terms where lines lie side by side in memory, else by panels.
struct PackTasks {
  const Operand& operand;
  const Panels& panels;
  int64_t kc, kStep, panelStep, count;

  PackTasks(const Operand& o, const Panels& p, int64_t terms) : operand(o), panels(p), kc(terms) {
    const bool byTerms = operand.lineStride == 1;
    kStep = byTerms ? std::min(kc, std::max<int64_t>(16, kPackWork / panels.lines / 16 * 16)) : kc;
    panelStep = byTerms ? panels.count() : std::max<int64_t>(1, kPackWork / (panels.fullWidth * kc));
    count = byTerms ? ceilDiv(kc, kStep) : ceilDiv(panels.count(), panelStep);
  }

  void run(int64_t task, int64_t line, int64_t k) const {
    if (operand.lineStride == 1) {
      packPanels(operand, line, panels, 0, panels.count(), k, task * kStep, std::min(kc, (task + 1) * kStep));
    } else {
      packPanels(operand, line, panels, task * panelStep, std::min(panels.count(), (task + 1) * panelStep), k, 0, kc);
    }
  }
};

void zeroRows(const Product& p) {
  for (int64_t i = 0; i < p.M; i++) std::memset(p.c + i * p.strideC, 0, static_cast<size_t>(p.N) * sizeof(float));
}

// Few panels of a: each piece of b is used by one task only, which packs it for itself.
void multiplyThin(const Product& p, ThreadPool& pool) {
  const int64_t aPanels = ceilDiv(p.M, kMr);
  const int height = heightFor(ceilDiv(p.M, aPanels));  // 16 rows: 8 + 8 rather than 14 + 2
  const int64_t bPanels = ceilDiv(p.N, kNr), blocks = ceilDiv(p.K, kBlockK);
  const int64_t kcMax = std::min(p.K, kBlockK);
  const int64_t aFloats = aPanels * panelFloats(kMr, kcMax), bFloats = panelFloats(kNr, kcMax);
  float* packedA = static_cast<float*>(ThreadPool::scratch(blocks * aFloats * 4, 1));
  const auto panelsOfA = [&](int64_t block) {
    return Panels{packedA + block * aFloats, p.M, height, heightFor, panelFloats(kMr, kcMax)};
  };
  for (int64_t block = 0; block < blocks; block++) {
    const int64_t k = block * kBlockK, kc = std::min(p.K - k, kBlockK);
    const Panels a = panelsOfA(block);
    packPanels(p.a, 0, a, 0, a.count(), k, 0, kc);
  }
  // Rows of b are read in stretches of several panels.
  const int64_t group = std::clamp<int64_t>(bPanels / (int64_t{4} * pool.threads()), 1, 8);
  pool.parallelRange(bPanels, group, [&](int64_t begin, int64_t end) {
    float* packedB = static_cast<float*>(ThreadPool::scratch(group * bFloats * 4, 2));
    const Panels b{packedB, std::min(p.N, end * kNr) - begin * kNr, kNr, widthFor, bFloats};
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t k = block * kBlockK, kc = std::min(p.K - k, kBlockK);
      packPanels(p.b, begin * kNr, b, 0, b.count(), k, 0, kc);
      const Panels a = panelsOfA(block);
      multiplyPanels(a, b, 0, a.count(), 0, b.count(), kc, p.c + begin * kNr, p.strideC, k > 0);
    }
  });
}

// Few panels of b: all of it is packed first, then each task packs the rows that it alone uses.
bool isTall(const Product& p) {
  const int64_t bPanels = ceilDiv(p.N, kNr);
  return p.a.kStride == 1 && bPanels <= 16 && bPanels * panelFloats(kNr, p.K) <= kPieceN * kBlockK * 5 / 4;
}

void multiplyTall(const Product& p, ThreadPool& pool) {
  const int64_t aPanels = ceilDiv(p.M, kMr), bPanels = ceilDiv(p.N, kNr), blocks = ceilDiv(p.K, kBlockK);
  const int64_t kcMax = std::min(p.K, kBlockK);
  const int64_t aFloats = panelFloats(kMr, kcMax), bFloats = panelFloats(kNr, kcMax);
  float* packedB = static_cast<float*>(ThreadPool::scratch(blocks * bPanels * bFloats * 4, 0));
  const auto panelsOfB = [&](int64_t block) {
    return Panels{packedB + block * bPanels * bFloats, p.N, kNr, widthFor, bFloats};
  };
  const auto terms = [&](int64_t block) { return std::min(p.K - block * kBlockK, kBlockK); };
  const int64_t packs = PackTasks(p.b, panelsOfB(0), kcMax).count;  // the last block may have fewer
  pool.parallelFor(blocks * packs, [&](int64_t task) {
    const int64_t block = task / packs;
    const Panels b = panelsOfB(block);
    const PackTasks tasks(p.b, b, terms(block));
    if (task % packs < tasks.count) tasks.run(task % packs, 0, block * kBlockK);
  });
  const int64_t most = std::clamp<int64_t>(4 * kTaskWork / (kMr * kNr * bPanels * p.K), 1, 8);
  const int64_t group = std::clamp<int64_t>(aPanels / (kTasksPerThread * pool.threads()), 1, most);
  pool.parallelRange(aPanels, group, [&](int64_t begin, int64_t end) {
    float* packedA = static_cast<float*>(ThreadPool::scratch(group * aFloats * 4, 2));
    const Panels a{packedA, std::min(p.M, end * kMr) - begin * kMr, kMr, heightFor, aFloats};
    for (int64_t block = 0; block < blocks; block++) {
      packPanels(p.a, begin * kMr, a, 0, a.count(), block * kBlockK, 0, terms(block));
      multiplyPanels(a, panelsOfB(block), 0, a.count(), 0, bPanels, terms(block), p.c + begin * kMr * p.strideC, p.strideC,
                     block > 0);
    }
  });
}

}  // namespace

void multiply(const Product& p, ThreadPool& pool) {
  if (p.M == 0 || p.N == 0) return;
  if (p.K == 0) return zeroRows(p);
  if (p.M <= kFewRows && (p.b.lineStride == 1 || p.b.kStride == 1)) return multiplyFewRows(p, pool);
  if (p.M <= kThinRows) return multiplyThin(p, pool);
  if (isTall(p)) return multiplyTall(p, pool);
  const int64_t kcMax = std::min(p.K, kBlockK);
  const int64_t aLines = std::min(p.M, kPieceM), bLines = std::min(p.N, kPieceN);
  const int64_t aFloats = ceilDiv(aLines, kMr) * panelFloats(kMr, kcMax);
  const int64_t bFloats = ceilDiv(bLines, kNr) * panelFloats(kNr, kcMax);
  float* packedB = static_cast<float*>(ThreadPool::scratch(bFloats * 4, 0));
  float* packedA = static_cast<float*>(ThreadPool::scratch(aFloats * 4, 1));

  for (int64_t n = 0; n < p.N; n += kPieceN) {
    for (int64_t k = 0; k < p.K; k += kBlockK) {
      const int64_t kc = std::min(p.K - k, kBlockK);
      const Panels b{packedB, std::min(p.N - n, kPieceN), kNr, widthFor, panelFloats(kNr, kc)};
      for (int64_t m = 0; m < p.M; m += kPieceM) {
        const Panels a{packedA, std::min(p.M - m, kPieceM), kMr, heightFor, panelFloats(kMr, kc)};
        const PackTasks aTasks(p.a, a, kc), bTasks(p.b, b, kc);
        const int64_t bCount = m == 0 ? bTasks.count : 0;
        pool.parallelFor(bCount + aTasks.count, [&](int64_t task) {
          if (task < bCount) bTasks.run(task, n, k);
          else aTasks.run(task - bCount, m, k);
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

namespace {

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
  require(args.nIn >= 2 && args.nOut >= 1, "matmul: expected at least two inputs and one output");
  const int64_t operands = args.nInts > 0 ? args.ints[0] : 0;
  require(operands == 0 || operands == 1, "matmul: expected operands 0 (as they are) or 1 (bfloat16)");
  require(args.nInts > 1 || (args.nIn == 2 && args.nOut == 1), "matmul: expected two inputs and one output");
  const bool rounded = operands == 1;
  const Tensor &a = args.in[0], &b = args.in[1], &c = args.out[0];
  const int r = c.rank;
  const auto isFloat = [](DType t) { return t == DType::Float32 || t == DType::BFloat16 || t == DType::Float16; };
  require(r >= 2 && a.rank == r && b.rank == r, "matmul: expected operands of equal rank, at least 2");
  require(isFloat(a.dtype) && isFloat(b.dtype), "matmul: expected floats");
  require(args.nInts > 1 || isFloat(c.dtype), "matmul: expected floats");
  for (int i = 0; i < args.nOut; i++) require(args.out[i].size() == c.size(), "matmul: expected outputs [..., M, N]");
  const Epilogue epilogue(args);
  // Without an epilogue the sums are the output; else they stay here until it has run.
  float* const product =
      epilogue.isNeeded() ? static_cast<float*>(ThreadPool::scratch(std::max<int64_t>(c.size(), 1) * 4, 3)) : c.as<float>();
  require(a.shape[r - 2] == c.shape[r - 2] && b.shape[r - 1] == c.shape[r - 1] && a.shape[r - 1] == b.shape[r - 2],
          "matmul: expected a[..., M, K], b[..., K, N] and out[..., M, N]");
  Product p{c.shape[r - 2], c.shape[r - 1], a.shape[r - 1],
            {static_cast<const char*>(a.data), a.dtype, a.strides[r - 2], a.strides[r - 1], rounded},
            {static_cast<const char*>(b.data), b.dtype, b.strides[r - 1], b.strides[r - 2], rounded},
            product, c.shape[r - 1]};
  // The stride of a single line means nothing; do not take it for contiguous lines.
  if (p.M == 1) p.a.lineStride = 0;
  if (p.N == 1) p.b.lineStride = 0;
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
  if (!epilogue.isNeeded()) return;
  args.pool.parallelRange(c.size(), 16 * bytecode::kBlock, [&](int64_t begin, int64_t end) {
    Epilogue::Runner(epilogue, 0).run(begin, end - begin, product + begin);
  });
}

PLINTH_KERNEL("matmul", matmulKernel);

}  // namespace plinth
