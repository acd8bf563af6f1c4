// Large products, after Goto & van de Geijn (2008): operands are packed into panels that the register tile reads in order.
// One operand, the inner one, is packed a piece at a time for all threads; tasks take groups of panels of the other, which
// each packs for itself into its own cache, and finish their part of c including the epilogue.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/matmul.h"

namespace plinth::matmul {
namespace {

// Packed bytes of the inner operand's piece, and of a task's group of the outer one.
constexpr int64_t kInnerBytes = int64_t{10} << 20;
constexpr int64_t kOuterBytes = int64_t{192} << 10;
// Sums that go through an epilogue at a time where there is little else to do.
constexpr int64_t kStripBytes = int64_t{128} << 10;
// An inner piece up to so large stays in the second-level cache: then groups are small, and what they wrote is still in the
// first when the epilogue reads it.
constexpr int64_t kNearBytes = int64_t{512} << 10;
// Up to so many rows a is the inner operand whatever its size.
constexpr int64_t kThinRows = 4 * kMr;
// Up to so many items of K a product is as good as its result is written: in whole rows.
constexpr int64_t kShallowItems = 32;
// Columns up to which rows of a are worth reading where they lie: more of them pay for the packing. Fewer where the rows
// nearly fill the sets of the first-level cache that they share.
constexpr int64_t kDirectColumns = 512, kCrowdedColumns = 256;
// Multiply-adds of items in a task: the most near the end of a product, where threads would wait for each other (less where
// parts of a group need not pack it again), and the least.
constexpr int64_t kLastWork = int64_t{1} << 21;
constexpr int64_t kLastDirectWork = int64_t{1} << 18;
constexpr int64_t kLeastWork = int64_t{1} << 17;
// Panels of the inner operand that a part of a group should have: each part packs the group again, which takes as long as
// multiplying by one panel, or half of it.
constexpr int64_t kLeastPart = 6;
// Terms packed by a task.
constexpr int64_t kPackWork = int64_t{1} << 15;

// Panels [from, to) of the outer operand times panels [innerFrom, innerTo) of the inner one.
struct Task {
  int64_t from, to, innerFrom, innerTo;
};

// Groups that shrink towards the end, the last ones cut across the inner operand, so that all threads end together.
std::vector<Task> planTasks(int64_t outerPanels, int64_t innerPanels, int64_t most, int64_t tileWork, int64_t lastWork,
                            int64_t mostParts, int threads) {
  std::vector<Task> tasks;
  const int64_t panelWork = innerPanels * tileWork;
  const int64_t least = std::clamp<int64_t>(kLeastWork / panelWork, 1, most);
  for (int64_t at = 0; at < outerPanels;) {
    const int64_t left = outerPanels - at;
    const int64_t group = std::min(left, std::clamp<int64_t>(left / (2 * threads), least, most));
    const bool isLast = threads > 1 && left <= 3 * threads;
    const int64_t parts = isLast ? std::clamp<int64_t>(group * panelWork / lastWork, 1, mostParts) : 1;
    for (int64_t part = 0; part < parts; part++) {
      tasks.push_back({at, at + group, innerPanels * part / parts, innerPanels * (part + 1) / parts});
    }
    at += group;
  }
  return tasks;
}

// Lines of items that are read from where they lie; none without `data`.
struct Lines {
  const float* data = nullptr;
  int64_t stride = 0;
};

// c[panels of a, panels of b] (+)= packed a x packed b; c is the place of the first of these panels. Full panels of a are
// read from `direct`, if there is such.
template <typename Terms>
void multiplyPanels(const Panels& a, const Panels& b, const Lines& direct, const Task& range, bool innerIsA, int64_t items,
                    TileResult result, Ahead ahead) {
  // The outer panels of a task are packed at 0; the inner ones lie where they belong.
  const int64_t outer = range.to - range.from;
  const int64_t aFrom = innerIsA ? range.innerFrom : 0, aTo = innerIsA ? range.innerTo : outer;
  const int64_t bFrom = innerIsA ? 0 : range.innerFrom, bTo = innerIsA ? outer : range.innerTo;
  for (int64_t j = bFrom; j < bTo; j++) {
    const int64_t columns = b.linesOf(j);
    const int vectors = columns <= kLanes ? 1 : kNv;
    for (int64_t i = aFrom; i < aTo; i++) {
      const int64_t rows = a.linesOf(i);
      const bool isDirect = direct.data != nullptr && rows == kMr;
      const Tile tile = isDirect ? pickDirectTile<Terms>(vectors) : pickTile<Terms>(heightFor(rows), vectors);
      const float* lines = isDirect ? direct.data + i * kMr * direct.stride : a.at(i);
      TileResult part = result;
      part.c += (i - aFrom) * a.fullWidth * result.stride + (j - bFrom) * b.fullWidth;
      if (part.narrow != nullptr) part.narrow += (i - aFrom) * a.fullWidth * result.narrowStride + (j - bFrom) * b.fullWidth;
      part.rows = static_cast<int>(rows);
      part.columns = static_cast<int>(columns);
      tile(items, lines, direct.stride, b.at(j), part, ahead);
    }
  }
}

template <typename Terms>
class Multiplication {
 public:
  Multiplication(const Product& p, ThreadPool& pool) : p_(p), pool_(pool) {
    const int64_t items = ceilDiv(p.K, Terms::kPerItem);
    const int64_t aPanels = ceilDiv(p.M, kMr);
    isShallow_ = items <= kShallowItems;
    const bool readsA = p.M > kThinRows && p.N <= kDirectColumns && liesAsItems(p.a, p.K, p.N <= kCrowdedColumns ? 7 : 4);
    isInPlace_ = readsA && !isShallow_ && p.M * items * 4 <= kNearBytes && (p.epilogue == nullptr || p.epilogue->narrowed() != nullptr);
    innerIsA_ = p.M <= kThinRows || isInPlace_ ||
                (!isShallow_ && (p.N >= 4 * p.M || (p.a.lineStride == 1 && p.b.lineStride == 1 && p.N > p.M)));
    // 16 rows: 8 + 8 rather than 14 + 2
    aWidth_ = p.M <= kThinRows ? heightFor(ceilDiv(p.M, aPanels)) : kMr;
    innerLines_ = innerIsA_ ? p.M : p.N;
    outerLines_ = innerIsA_ ? p.N : p.M;
    const int64_t innerWidth = innerIsA_ ? aWidth_ : kNr;
    // Pieces of the inner operand: all of K if that leaves enough lines, else whole blocks of it.
    int64_t pieceItems = items;
    if (std::min<int64_t>(innerLines_, 768) * items * 4 > kInnerBytes) {
      pieceItems = std::min(items, std::max<int64_t>(4, kInnerBytes / (std::min<int64_t>(innerLines_, 1024) * kBlockK * 4)) * kBlockK);
    }
    pieceTerms_ = pieceItems * Terms::kPerItem;
    const int64_t lines = std::max<int64_t>(kInnerBytes / (pieceItems * 4), 4 * innerWidth);
    const int64_t pieces = ceilDiv(innerLines_, lines);
    pieceLines_ = ceilDiv(ceilDiv(innerLines_, pieces), innerWidth) * innerWidth;
    blockItems_ = std::min(items, kBlockK);
    isDirect_ = readsA && (!innerIsA_ || isInPlace_);
  }

  void run() {
    if (p_.epilogue != nullptr && pieceTerms_ < p_.K) {
      // Sums of several pieces of K: whole columns of them wait here.
      const int64_t n = (innerIsA_ ? pieceLines_ : p_.M) * (innerIsA_ ? p_.N : pieceLines_);
      sums_ = static_cast<float*>(ThreadPool::scratch(n * 4, kSumsSlot));
    }
    for (int64_t line = 0; line < innerLines_; line += pieceLines_) {
      for (int64_t k = 0; k < p_.K; k += pieceTerms_) piece(line, k);
    }
  }

 private:
  // Whether the tile can read the operand's lines as they are, with no more of them than `mostPerSet` in a set (of eight) of
  // the first-level cache.
  static bool liesAsItems(const Operand& a, int64_t terms, int mostPerSet) {
    const bool areTerms = Terms::kPerItem == 1 ? a.dtype == DType::Float32 && !a.rounded : a.dtype == DType::BFloat16;
    if (!areTerms || a.kStride != 1 || a.lineStride % Terms::kPerItem != 0 || terms % Terms::kPerItem != 0) return false;
    if (reinterpret_cast<uintptr_t>(a.data) % sizeof(float) != 0) return false;
    constexpr int64_t kSets = 64, kLine = 64;
    int used[kSets] = {};
    for (int i = 0; i < kMr; i++) {
      const int64_t bytes = i * a.lineStride * bytesOf(a.dtype);
      if (++used[static_cast<uint64_t>(bytes) / kLine % kSets] > mostPerSet) return false;
    }
    return true;
  }

  const Operand& inner() const { return innerIsA_ ? p_.a : p_.b; }
  const Operand& outer() const { return innerIsA_ ? p_.b : p_.a; }
  Panels panelsOfA(float* data, int64_t lines) const { return {data, lines, aWidth_, heightFor, panelFloats(aWidth_, blockItems_)}; }
  Panels panelsOfB(float* data, int64_t lines) const { return {data, lines, kNr, widthFor, panelFloats(kNr, blockItems_)}; }
  Panels panelsOfInner(float* data, int64_t lines) const { return innerIsA_ ? panelsOfA(data, lines) : panelsOfB(data, lines); }
  Panels panelsOfOuter(float* data, int64_t lines) const { return innerIsA_ ? panelsOfB(data, lines) : panelsOfA(data, lines); }

  // Lines [line, ...) of the inner operand, terms [k, ...).
  void piece(int64_t line, int64_t k) {
    const int64_t lines = std::min(pieceLines_, innerLines_ - line);
    const int64_t terms = std::min(pieceTerms_, p_.K - k);
    constexpr int64_t kBlockTerms = kBlockK * Terms::kPerItem;
    const int64_t blocks = ceilDiv(terms, kBlockTerms);
    const Panels shape = panelsOfInner(nullptr, lines);
    const int64_t blockFloats = shape.count() * shape.stride;
    float* packed = isInPlace_ ? nullptr : static_cast<float*>(ThreadPool::scratch(blocks * blockFloats * 4, kInnerSlot));
    const auto innerBlock = [&](int64_t block) { return panelsOfInner(packed + block * blockFloats, lines); };
    const auto termsOf = [&](int64_t block) { return std::min(kBlockTerms, terms - block * kBlockTerms); };
    if (!isInPlace_) packInner(line, k, blocks, innerBlock, termsOf);

    const int64_t outerWidth = innerIsA_ ? kNr : aWidth_;
    const int64_t outerPanels = ceilDiv(outerLines_, outerWidth);
    const bool isNear = isShallow_ || (!innerIsA_ && blocks * blockFloats * 4 <= kNearBytes);
    const int64_t most =
        isNear ? 2 : std::clamp<int64_t>(kOuterBytes / (panelFloats(static_cast<int>(outerWidth), blockItems_) * 4), 1, 16);
    const int64_t tileWork = int64_t{kMr} * kNr * ceilDiv(terms, Terms::kPerItem);
    const bool packsOuter = !isDirect_ || isInPlace_;
    const int64_t lastWork = packsOuter ? kLastWork : kLastDirectWork;
    const int64_t threads = pool_.threads(), innerPanels = shape.count();
    const int64_t mostParts = !packsOuter ? innerPanels : std::min(innerPanels, std::max(threads, innerPanels / kLeastPart));
    const std::vector<Task> tasks = planTasks(outerPanels, innerPanels, most, tileWork, lastWork, mostParts, pool_.threads());
    const bool isEnd = k + terms == p_.K;
    pool_.parallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t index) {
      const Task& task = tasks[static_cast<size_t>(index)];
      const int64_t outerLine = task.from * outerWidth;
      const int64_t groupLines = std::min(outerLines_, task.to * outerWidth) - outerLine;
      const Panels local = panelsOfOuter(nullptr, groupLines);
      float* memory = static_cast<float*>(ThreadPool::scratch(local.count() * local.stride * 4, kOuterSlot));
      const Panels packedOuter = panelsOfOuter(memory, groupLines);
      const auto pack = [&](int64_t block) {
        const int64_t n = termsOf(block), items = ceilDiv(n, Terms::kPerItem);
        const int64_t first = packsOuter ? 0 : groupLines / kMr;
        packPanels<Terms>(outer(), outerLine, packedOuter, first, packedOuter.count(), k + block * kBlockTerms, n, 0, items);
      };
      // The task's part of the result that belongs to panels [from, to) of the inner operand.
      const auto strip = [&](int64_t from, int64_t to, bool isPacked) {
        const int64_t innerFrom = from * shape.fullWidth, partLines = std::min(lines, to * shape.fullWidth) - innerFrom;
        const int64_t rows = innerIsA_ ? partLines : groupLines, columns = innerIsA_ ? groupLines : partLines;
        const int64_t row = innerIsA_ ? line + innerFrom : outerLine, column = innerIsA_ ? outerLine : line + innerFrom;
        const Target target = targetOf(line, row, column, rows, columns);
        BFloat16* narrow = p_.epilogue != nullptr ? p_.epilogue->narrowed() : nullptr;
        if (narrow != nullptr) narrow += p_.first + row * p_.strideC + column;
        for (int64_t block = 0; block < blocks; block++) {
          if (!isPacked) pack(block);
          Panels packedInner = isInPlace_ ? shape : innerBlock(block);
          if (isInPlace_ && to * kMr > lines) {
            // The last few lines make no full panel.
            packedInner.data = static_cast<float*>(ThreadPool::scratch(blockFloats * 4, kRowsSlot));
            packPanels<Terms>(p_.a, line, packedInner, to - 1, to, k + block * kBlockTerms, termsOf(block), 0,
                              ceilDiv(termsOf(block), Terms::kPerItem));
          }
          Lines direct;
          Ahead ahead;
          if (!isDirect_) {
            // The next block of this group, or the first one of the task that this thread is likely to take next.
            const int64_t steps = (task.to - task.from) * (to - from) * ceilDiv(ceilDiv(termsOf(block), Terms::kPerItem), kAheadItems);
            const size_t next = static_cast<size_t>(index + pool_.threads());
            if (block + 1 < blocks) {
              ahead = aheadOf(outerLine, groupLines, k + (block + 1) * kBlockTerms, termsOf(block + 1), steps);
            } else if (next < tasks.size() && tasks[next].from != task.from) {
              const int64_t nextLine = tasks[next].from * outerWidth;
              ahead = aheadOf(nextLine, std::min(outerLines_, tasks[next].to * outerWidth) - nextLine, k, termsOf(0), steps);
            }
          }
          if (isDirect_) {
            const char* data = p_.a.at(innerIsA_ ? line : outerLine, k + block * kBlockTerms);
            direct = {reinterpret_cast<const float*>(data), p_.a.lineStride / Terms::kPerItem};
          }
          multiplyPanels<Terms>(innerIsA_ ? packedInner : packedOuter, innerIsA_ ? packedOuter : packedInner, direct,
                                {task.from, task.to, from, to}, innerIsA_, ceilDiv(termsOf(block), Terms::kPerItem),
                                {target.c, target.stride, isEnd && block + 1 == blocks ? narrow : nullptr, p_.strideC, 0, 0, k > 0 || block > 0},
                                ahead);
        }
        if (p_.epilogue != nullptr && isEnd && narrow == nullptr) {
          p_.epilogue->apply(p_.first + row * p_.strideC + column, rows, columns, p_.strideC, target.c, target.stride);
        }
      };
      if (p_.epilogue == nullptr || !isShallow_) return strip(task.innerFrom, task.innerTo, false);
      pack(0);
      const int64_t step = std::max<int64_t>(1, kStripBytes / (groupLines * shape.fullWidth * 4));
      for (int64_t from = task.innerFrom; from < task.innerTo; from += step) {
        strip(from, std::min(task.innerTo, from + step), true);
      }
    });
  }

  // Lines of the outer operand brought near.
  Ahead aheadOf(int64_t line, int64_t lines, int64_t k, int64_t terms, int64_t steps) const {
    const Operand& operand = outer();
    const int64_t size = bytesOf(operand.dtype);
    if (operand.kStride == 1) return {operand.at(line, k), lines, terms * size, operand.lineStride * size, steps};
    if (operand.lineStride == 1) return {operand.at(line, k), terms, lines * size, operand.kStride * size, steps};
    return {};
  }

  struct Target {
    float* c;
    int64_t stride;
  };
  Target targetOf(int64_t line, int64_t row, int64_t column, int64_t rows, int64_t columns) const {
    if (p_.epilogue == nullptr) return {p_.c + row * p_.strideC + column, p_.strideC};
    if (sums_ != nullptr) {
      const int64_t stride = innerIsA_ ? p_.N : pieceLines_;
      return {sums_ + (innerIsA_ ? (row - line) * stride + column : row * stride + column - line), stride};
    }
    // Rows a multiple of a page apart would share few places in the cache.
    const int64_t stride = ceilDiv(columns, 16) * 16 + 16;
    return {static_cast<float*>(ThreadPool::scratch(rows * stride * 4, kSumsSlot)), stride};
  }

  // By terms where lines lie side by side in memory, else by panels.
  template <typename Block, typename TermsOf>
  void packInner(int64_t line, int64_t k, int64_t blocks, Block&& blockOf, TermsOf&& termsOf) {
    const Panels shape = blockOf(0);
    const bool byTerms = inner().lineStride == 1;
    const int64_t itemStep = byTerms ? std::max<int64_t>(16, kPackWork / Terms::kPerItem / shape.lines / 16 * 16) : blockItems_;
    const int64_t panelStep =
        byTerms ? shape.count() : std::max<int64_t>(1, kPackWork / Terms::kPerItem / (shape.fullWidth * blockItems_));
    const int64_t perBlock = byTerms ? ceilDiv(blockItems_, itemStep) : ceilDiv(shape.count(), panelStep);
    pool_.parallelFor(blocks * perBlock, [&](int64_t index) {
      const int64_t block = index / perBlock, part = index % perBlock;
      const int64_t terms = termsOf(block), items = ceilDiv(terms, Terms::kPerItem);
      const int64_t from = byTerms ? part * itemStep : 0, to = byTerms ? std::min(items, from + itemStep) : items;
      const int64_t first = byTerms ? 0 : part * panelStep, last = std::min(shape.count(), first + panelStep);
      if (from < to) {
        packPanels<Terms>(inner(), line, blockOf(block), first, last, k + block * kBlockK * Terms::kPerItem, terms, from, to);
      }
    });
  }

  const Product& p_;
  ThreadPool& pool_;
  bool innerIsA_, isShallow_, isDirect_;
  bool isInPlace_;  // a is inner and direct: nothing is packed for all threads, which spares them waiting for each other
  int aWidth_;
  int64_t innerLines_, outerLines_, pieceLines_, pieceTerms_, blockItems_;
  float* sums_ = nullptr;
};

// No terms: all sums are 0.
void multiplyNothing(const Product& p) {
  if (p.epilogue == nullptr) {
    for (int64_t i = 0; i < p.M; i++) std::memset(p.c + i * p.strideC, 0, static_cast<size_t>(p.N) * sizeof(float));
    return;
  }
  const std::vector<float> zeros(static_cast<size_t>(p.N));
  p.epilogue->apply(p.first, p.M, p.N, p.strideC, zeros.data(), 0);
}

}  // namespace

void multiply(const Product& p, ThreadPool& pool) {
  if (p.M == 0 || p.N == 0) return;
  if (p.K == 0) return multiplyNothing(p);
  if (p.M <= kFewRows && (p.b.lineStride == 1 || p.b.kStride == 1)) return multiplyFewRows(p, pool);
  if (p.isBf16()) Multiplication<Bf16Terms>(p, pool).run();
  else Multiplication<FloatTerms>(p, pool).run();
}

}  // namespace plinth::matmul
