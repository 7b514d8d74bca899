// Bilinear interpolation of images to another size, and its gradient, for the attention of GhostFaceNet V2. MXNet adds the
// gradients up one by one in a single thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "planes.h"

namespace vargfacenet {

// Where the numbers of a longer or shorter row come from: between `low` and `high`, at the share `after` of the way.
struct Places {
  std::vector<int64_t> low, high;
  std::vector<float> after;

  // With `corners`, the first and last numbers of both rows are at the same places; without, the rows' ends are. A single
  // number is the first one, as in MXNet.
  Places(int64_t in, int64_t out, bool corners) {
    const float step = out == 1 ? 0 : corners ? static_cast<float>(in - 1) / (out - 1) : static_cast<float>(in) / out;
    for (int64_t i = 0; i < out; ++i) {
      const float place = corners ? step * i : std::max(0.0f, step * (i + 0.5f) - 0.5f);
      const int64_t before = std::min(static_cast<int64_t>(place), in - 1);
      low.push_back(before);
      high.push_back(std::min(before + 1, in - 1));
      after.push_back(place - before);
    }
  }
};

// x (N, C, in_height, in_width) -> y (N, C, out_height, out_width)
struct Resize {
  int64_t planes, in_height, in_width, out_height, out_width;
  bool corners;
};

inline void resize_forward(const Resize& size, const float* x, float* y) {
  const Places rows(size.in_height, size.out_height, size.corners), columns(size.in_width, size.out_width, size.corners);
#pragma omp parallel
  {
    std::vector<float> row(size.in_width);
#pragma omp for
    for (int64_t plane = 0; plane < size.planes; ++plane) {
      const float* image = x + plane * size.in_height * size.in_width;
      float* to = y + plane * size.out_height * size.out_width;
      for (int64_t i = 0; i < size.out_height; ++i, to += size.out_width) {
        const float *above = image + rows.low[i] * size.in_width, *below = image + rows.high[i] * size.in_width;
        const float after = rows.after[i], before = 1 - after;
        float* between = row.data();
#pragma omp simd
        for (int64_t j = 0; j < size.in_width; ++j) between[j] = before * above[j] + after * below[j];
        for (int64_t j = 0; j < size.out_width; ++j) {
          to[j] = (1 - columns.after[j]) * between[columns.low[j]] + columns.after[j] * between[columns.high[j]];
        }
      }
    }
  }
}

inline void resize_backward(const Resize& size, const float* dy, float* dx) {
  const Places rows(size.in_height, size.out_height, size.corners), columns(size.in_width, size.out_width, size.corners);
#pragma omp parallel
  {
    std::vector<float> sums(size.in_height * size.out_width);  // of the rows, before columns are added up
#pragma omp for
    for (int64_t plane = 0; plane < size.planes; ++plane) {
      const float* from = dy + plane * size.out_height * size.out_width;
      float* image = dx + plane * size.in_height * size.in_width;
      std::fill(sums.begin(), sums.end(), 0.0f);
      std::fill(image, image + size.in_height * size.in_width, 0.0f);
      for (int64_t i = 0; i < size.out_height; ++i, from += size.out_width) {
        const float share[] = {1 - rows.after[i], rows.after[i]};
        const int64_t row[] = {rows.low[i], rows.high[i]};
        for (int64_t side = 0; side < 2; ++side) {
          const float part = share[side];
          float* to = sums.data() + row[side] * size.out_width;
#pragma omp simd
          for (int64_t j = 0; j < size.out_width; ++j) to[j] += part * from[j];
        }
      }
      for (int64_t i = 0; i < size.in_height; ++i, image += size.in_width) {
        const float* sum = sums.data() + i * size.out_width;
        for (int64_t j = 0; j < size.out_width; ++j) {
          image[columns.low[j]] += (1 - columns.after[j]) * sum[j];
          image[columns.high[j]] += columns.after[j] * sum[j];
        }
      }
    }
  }
}

}  // namespace vargfacenet
