// Weights in the order in which `gather` reads them.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "panels.h"

namespace vargfacenet {

// For each group, tiles of `high` outputs, each (taps, high), the last filled up with zeros.
class Weights {
 public:
  // `weight(group, row, tap)` returns each number.
  template <typename Weight, typename = std::enable_if_t<!std::is_pointer_v<Weight>>>
  Weights(int64_t high, int64_t groups, int64_t rows, int64_t taps, Weight weight)
      : Weights(high, groups, rows, taps, static_cast<const float*>(nullptr)) {
    own_.resize(size());
    numbers_ = own_.data();
    // A team of threads costs more than few numbers do.
#pragma omp parallel for collapse(2) if (size() > (16 << 10))
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t tile = 0; tile < tiles_; ++tile) {
        float* to = own_.data() + (g * tiles_ + tile) * high * taps;
        const int64_t first = tile * high, count = std::min<int64_t>(high, rows - first);
        for (int64_t k = 0; k < taps; ++k) {
          for (int64_t r = 0; r < count; ++r) to[k * high + r] = weight(g, first + r, k);
        }
      }
    }
  }

  // Of numbers that are in this order already, and stay where they are.
  Weights(int64_t high, int64_t groups, int64_t rows, int64_t taps, const float* packed)
      : high_(high), taps_(taps), groups_(groups), tiles_((rows + high - 1) / high), numbers_(packed) {}

  Weights(Weights&&) = default;

  // The tiles from an output of a group on, which must be a multiple of `high`.
  const float* rows(int64_t group, int64_t first) const { return numbers_ + (group * tiles_ * high_ + first) * taps_; }

  int64_t size() const { return groups_ * tiles_ * high_ * taps_; }

 private:
  int64_t high_, taps_, groups_, tiles_;
  const float* numbers_;
  std::vector<float> own_;
};

// Rows of weights that the forward pass of a convolution computes at a time: a tile of `gather`, or one where each group
// has a single output. Whoever lays weights out and whoever computes with them must agree on it.
inline int64_t forward_rows(const Convolution& conv) { return conv.out == 1 ? 1 : kRows; }

// The weights of a convolution's forward pass, each row multiplied by its number in `factors`, unless that is null.
inline Weights forward_weights(const Convolution& conv, const float* weight, const float* factors) {
  const int64_t out = conv.out, taps = conv.taps();
  return Weights(forward_rows(conv), conv.groups, out, taps, [=](int64_t g, int64_t r, int64_t k) {
    const int64_t row = g * out + r;
    return factors ? weight[row * taps + k] * factors[row] : weight[row * taps + k];
  });
}

}  // namespace vargfacenet
