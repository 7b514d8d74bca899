// The threads of a computation, and their share of it.
#pragma once

#include <algorithm>
#include <cstdint>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace vargfacenet {

inline int64_t max_threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// Parts of the rows of an output, each of whole tiles. There is one, or where that would leave threads without work, as
// for a single image, one for each thread. The outermost loop is over the parts, so that each thread gets one of them with
// all of the other `items`, however unequal these are.
struct Parts {
  int64_t rows, high, tiles, count;

  Parts(int64_t all_rows, int64_t tile_rows, int64_t items)
      : rows(all_rows), high(tile_rows), tiles((rows + high - 1) / high), count(1) {
    const int64_t threads = max_threads();
    if (busy(items, threads) < 0.9 && busy(tiles, threads) > busy(items, threads)) count = std::min(tiles, threads);
  }
  int64_t begin(int64_t part) const { return std::min(rows, part * tiles / count * high); }

 private:
  // Share of the time in which threads have work.
  static double busy(int64_t items, int64_t threads) {
    return static_cast<double>(items) / (threads * ((items + threads - 1) / threads));
  }
};

}  // namespace vargfacenet
