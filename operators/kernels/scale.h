// Multiplies an image's channels by one weight each, and computes their means, for squeeze and excitation.
#pragma once

#include "planes.h"

namespace vargfacenet {

// y[n, c, :] = x[n, c, :] * weight[n, c]
inline void scale_forward(const Planes& planes, const float* x, const float* weight, float* y) {
  const int64_t count = planes.batch * planes.channels;
#pragma omp parallel for
  for (int64_t plane = 0; plane < count; ++plane) {
    const float* from = x + plane * planes.size;
    float* to = y + plane * planes.size;
    const float w = weight[plane];
#pragma omp simd
    for (int64_t i = 0; i < planes.size; ++i) to[i] = from[i] * w;
  }
}

inline void scale_backward(const Planes& planes, const float* dy, const float* x, const float* weight, float* dx,
                           float* dweight) {
  const int64_t count = planes.batch * planes.channels;
#pragma omp parallel for
  for (int64_t plane = 0; plane < count; ++plane) {
    const float* from = x + plane * planes.size;
    const float* above = dy + plane * planes.size;
    float* to = dx + plane * planes.size;
    const float w = weight[plane];
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < planes.size; ++i) {
      to[i] = above[i] * w;
      sum += above[i] * from[i];
    }
    dweight[plane] = sum;
  }
}

// The mean of each plane: (N, C, ...) -> (N, C, 1, ...).
inline void mean_forward(const Planes& planes, const float* x, float* y) {
  const int64_t count = planes.batch * planes.channels;
#pragma omp parallel for
  for (int64_t plane = 0; plane < count; ++plane) {
    const float* from = x + plane * planes.size;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < planes.size; ++i) sum += from[i];
    y[plane] = sum / planes.size;
  }
}

inline void mean_backward(const Planes& planes, const float* dy, float* dx) {
  const int64_t count = planes.batch * planes.channels;
#pragma omp parallel for
  for (int64_t plane = 0; plane < count; ++plane) {
    float* to = dx + plane * planes.size;
    const float share = dy[plane] / planes.size;
#pragma omp simd
    for (int64_t i = 0; i < planes.size; ++i) to[i] = share;
  }
}

}  // namespace vargfacenet
