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

// The threads' shares of a forward pass, which computes `rows` of outputs, in tiles of `high`, for each of some items.
//
// Each thread gets the same number of whole items. Where the rest would leave threads without work for more than a
// twentieth of the time, as for a single image, they divide it by tiles of rows; each then copies the inputs of an item
// that it computes a part of.
struct Shares {
  int64_t rows, high, tiles, items, threads, parts;

  Shares(int64_t all_rows, int64_t tile_rows, int64_t all_items)
      : rows(all_rows), high(tile_rows), tiles((rows + high - 1) / high), items(all_items), threads(max_threads()),
        parts(items < 0.95 * threads * (whole() + 1) ? tiles : 1) {}

  int64_t whole() const { return items / threads; }

  // Calls visit(item, first row, last row) for everything. Each thread of a team calls this, with a visit of its own.
  template <typename Visit>
  void divide(Visit visit) const {
#pragma omp for schedule(static, 1)
    for (int64_t share = 0; share < threads; ++share) each(share, visit);
  }

 private:
  template <typename Visit>
  void each(int64_t share, Visit visit) const {
    for (int64_t item = share * whole(); item < (share + 1) * whole(); ++item) visit(item, 0, rows);
    const int64_t left = (items - threads * whole()) * parts, last = left * (share + 1) / threads;
    for (int64_t part = left * share / threads; part < last;) {
      const int64_t item = part / parts, begin = part % parts, end = std::min(parts, begin + last - part);
      visit(threads * whole() + item, begin * tiles / parts * high, std::min(rows, end * tiles / parts * high));
      part += end - begin;
    }
  }
};

}  // namespace vargfacenet
