// Weights in the order in which `gather` reads them.
#pragma once

#include <cstdint>
#include <vector>

#include "panels.h"

namespace vargfacenet {

// For each group, tiles of `high` outputs, each (taps, high), the last filled up with zeros. `weight(group, row, tap)`
// returns each number.
template <int high>
class Weights {
 public:
  template <typename Weight>
  Weights(int64_t groups, int64_t rows, int64_t taps, Weight weight)
      : taps_(taps), tiles_((rows + high - 1) / high), numbers_(groups * tiles_ * high * taps) {
    // A team of threads costs more than few numbers do.
#pragma omp parallel for collapse(2) if (numbers_.size() > (16 << 10))
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t tile = 0; tile < tiles_; ++tile) {
        float* to = numbers_.data() + (g * tiles_ + tile) * high * taps;
        const int64_t first = tile * high, count = std::min<int64_t>(high, rows - first);
        for (int64_t k = 0; k < taps; ++k) {
          for (int64_t r = 0; r < count; ++r) to[k * high + r] = weight(g, first + r, k);
        }
      }
    }
  }

  // The tiles from an output of a group on, which must be a multiple of `high`.
  const float* rows(int64_t group, int64_t first) const { return numbers_.data() + (group * tiles_ * high + first) * taps_; }

 private:
  int64_t taps_, tiles_;
  std::vector<float> numbers_;
};

// The weights of a convolution, each row multiplied by its number in `factors`, unless that is null.
inline auto forward_weights(const Convolution& conv, const float* weight, const float* factors) {
  const int64_t out = conv.out, taps = conv.taps();
  return [=](int64_t g, int64_t r, int64_t k) {
    const int64_t row = g * out + r;
    return factors ? weight[row * taps + k] * factors[row] : weight[row * taps + k];
  };
}

}  // namespace vargfacenet
