// How kernels see a tensor: (N, C, ...) in float32, row-major, as N x C planes of `size` numbers each.
//
// Work is divided by channel, and the order of sums is the same for any number of threads, so that results do not depend
// on it. Sums run in float32 within a plane and in double over planes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vargfacenet {

struct Planes {
  int64_t batch, channels, size;

  explicit Planes(const std::vector<int64_t>& shape) : batch(shape[0]), channels(shape[1]), size(1) {
    for (std::size_t axis = 2; axis < shape.size(); ++axis) size *= shape[axis];
  }
  int64_t offset(int64_t sample, int64_t channel) const { return (sample * channels + channel) * size; }
  double count() const { return static_cast<double>(batch) * size; }  // numbers in a channel
};

}  // namespace vargfacenet
