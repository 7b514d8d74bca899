// Weights in the order in which the forward pass of a convolution, and its gradient of the inputs, read them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "panels.h"

namespace vargfacenet {

// For each group, tiles of `high` outputs, each (taps, high), the last filled up with zeros.
class Weights {
 public:
  // `lay(group, first row, rows, to)` writes each tile, (taps, high), whose last rows may be missing; with `in_team` threads
  // divide the tiles.
  template <typename Lay, typename = std::enable_if_t<!std::is_pointer_v<Lay>>>
  Weights(int64_t high, int64_t groups, int64_t rows, int64_t taps, Lay lay, bool in_team = true)
      : Weights(high, groups, rows, taps, static_cast<const float*>(nullptr)) {
    own_.resize(size());
    numbers_ = own_.data();
    // A team of threads costs more than few numbers do.
#pragma omp parallel for collapse(2) if (in_team && size() > (16 << 10))
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t tile = 0; tile < tiles_; ++tile) {
        const int64_t first = tile * high;
        lay(g, first, std::min(high, rows - first), own_.data() + (g * tiles_ + tile) * high * taps);
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

// Whether the forward pass is that of `winograd.h`, whose weights are others. It saves nothing where products have few taps,
// where few tiles of outputs share the sums of inputs, or in images of a single row, which faces are not.
inline bool is_winograd(const Convolution& conv) {
  return conv.kernel == 3 && conv.stride == 1 && conv.in >= 8 && conv.out >= 2 * kRows;
}

// Numbers of each row of the weights of the forward pass.
inline int64_t forward_taps(const Convolution& conv) { return is_winograd(conv) ? conv.in * 12 : conv.taps(); }

// The weights of a forward pass that are in their order already.
inline Weights packed_weights(const Convolution& conv, const float* packed) {
  return Weights(forward_rows(conv), conv.groups, conv.out, forward_taps(conv), packed);
}

// Lays tiles of weights, each of which `weight(group, row, tap)` returns.
template <typename Weight>
auto by_number(int64_t high, int64_t taps, Weight weight) {
  return [=](int64_t g, int64_t first, int64_t rows, float* to) {
    for (int64_t k = 0; k < taps; ++k, to += high) {
      for (int64_t r = 0; r < rows; ++r) to[r] = weight(g, first + r, k);
    }
  };
}

// Lays tiles of four products one after another (`winograd.h`), of which each has the weights (in, 3) of a row.
template <typename Weight>
auto by_product(int64_t high, int64_t taps, Weight weight) {
  return [=, product = taps / 3 * high](int64_t g, int64_t first, int64_t rows, float* to) {
    for (int64_t k = 0; k < taps; k += 9) {
      for (int64_t x = k; x < k + 3; ++x, to += high) {
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t row = first + r;
          const float upper = weight(g, row, x), middle = weight(g, row, x + 3), lower = weight(g, row, x + 6);
          to[r] = (upper + middle + lower) / 2;
          to[product + r] = (upper - middle + lower) / 2;
          to[2 * product + r] = upper;
          to[3 * product + r] = lower;
        }
      }
    }
  };
}

// The weights of a convolution's forward pass; `weight(group, row, tap)` returns those of the convolution itself.
template <typename Weight>
Weights forward_weights(const Convolution& conv, Weight weight, bool in_team = true) {
  const int64_t high = forward_rows(conv), taps = conv.taps();
  if (is_winograd(conv)) {
    return Weights(high, conv.groups, conv.out, forward_taps(conv), by_product(high, taps, weight), in_team);
  }
  return Weights(high, conv.groups, conv.out, taps, by_number(high, taps, weight), in_team);
}

// The weights (groups * out, in, kernel, kernel) of a convolution, for `forward_weights`.
inline auto plain_weights(const Convolution& conv, const float* weight) {
  return [weight, out = conv.out, taps = conv.taps()](int64_t g, int64_t r, int64_t k) {
    return weight[(g * out + r) * taps + k];
  };
}

}  // namespace vargfacenet
