// Weights in the order in which `gather` reads them.
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
  // `lay(group, row, to)` writes each row, of which the next number belongs at to + high; with `in_team` threads divide
  // the rows.
  template <typename Lay, typename = std::enable_if_t<!std::is_pointer_v<Lay>>>
  Weights(int64_t high, int64_t groups, int64_t rows, int64_t taps, Lay lay, bool in_team = true)
      : Weights(high, groups, rows, taps, static_cast<const float*>(nullptr)) {
    own_.resize(size());
    numbers_ = own_.data();
    // A team of threads costs more than few numbers do.
#pragma omp parallel for collapse(2) if (in_team && size() > (16 << 10))
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t tile = 0; tile < tiles_; ++tile) {
        float* to = own_.data() + (g * tiles_ + tile) * high * taps;
        for (int64_t r = 0; r < std::min(high, rows - tile * high); ++r) lay(g, tile * high + r, to + r);
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
// or where few tiles of outputs share the sums of inputs.
inline bool is_winograd(const Convolution& conv) {
  return conv.kernel == 3 && conv.stride == 1 && conv.in >= 8 && conv.out >= 2 * kRows;
}

// Numbers of each row of the weights of the forward pass.
inline int64_t forward_taps(const Convolution& conv) { return is_winograd(conv) ? conv.in * 12 : conv.taps(); }

// A row of weights each of which `weight(group, row, tap)` returns.
template <typename Weight>
auto laid_by_number(int64_t high, int64_t taps, Weight weight) {
  return [=](int64_t g, int64_t r, float* to) {
    for (int64_t k = 0; k < taps; ++k) to[k * high] = weight(g, r, k);
  };
}

// The weights of a convolution's forward pass; `weight(group, row, tap)` returns those of the convolution itself.
template <typename Weight>
Weights forward_weights(const Convolution& conv, Weight weight, bool in_team = true) {
  const int64_t high = forward_rows(conv), taps = conv.taps(), product = 3 * conv.in * high;
  if (!is_winograd(conv)) {
    return Weights(high, conv.groups, conv.out, taps, laid_by_number(high, taps, weight), in_team);
  }
  const auto lay = [=](int64_t g, int64_t r, float* to) {
    for (int64_t k = 0; k < taps; k += 9) {
      for (int64_t x = 0; x < 3; ++x, to += high) {
        const float upper = weight(g, r, k + x), middle = weight(g, r, k + 3 + x), lower = weight(g, r, k + 6 + x);
        to[0] = (upper + middle + lower) / 2;
        to[product] = (upper - middle + lower) / 2;
        to[2 * product] = upper;
        to[3 * product] = lower;
      }
    }
  };
  return Weights(high, conv.groups, conv.out, forward_taps(conv), lay, in_team);
}

// Those of weights (groups * out, in, kernel, kernel).
inline auto in_rows(const Convolution& conv, const float* weight) {
  return [weight, out = conv.out, taps = conv.taps()](int64_t g, int64_t r, int64_t k) {
    return weight[(g * out + r) * taps + k];
  };
}

}  // namespace vargfacenet
