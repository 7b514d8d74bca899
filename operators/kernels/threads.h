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

// Parts of the rows of an output. With less other work than threads, as for a single image, there are several, each of
// whole tiles; otherwise there is one.
struct Parts {
  int64_t rows, high, tiles, count;

  Parts(int64_t all_rows, int64_t tile_rows, int64_t other_work)
      : rows(all_rows), high(tile_rows), tiles((rows + high - 1) / high),
        count(std::min(tiles, std::max<int64_t>(1, max_threads() / other_work))) {}
  int64_t begin(int64_t part) const { return std::min(rows, part * tiles / count * high); }
};

}  // namespace vargfacenet
