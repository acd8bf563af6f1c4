// Kernels that are compiled as one file, since each alone would take longer over its headers than over its code. Names in
// their anonymous namespaces must differ. A kernel that is not in this list is compiled by itself.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O2")  // as fast as with -O3, in 0.6 of the compile time
#endif
#include "kernels/along.cc"
#include "kernels/argmax.cc"
#include "kernels/cache_update.cc"
#include "kernels/concat.cc"
#include "kernels/copy.cc"
#include "kernels/cross_entropy.cc"
#include "kernels/gather.cc"
#include "kernels/iota.cc"
#include "kernels/optimizer.cc"
#include "kernels/pad.cc"
#include "kernels/pool.cc"
#include "kernels/random.cc"
#include "kernels/reduce.cc"
#include "kernels/resample.cc"
#include "kernels/rope.cc"
#include "kernels/sort.cc"
