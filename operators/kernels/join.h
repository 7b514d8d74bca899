// The sum of a block's branches: y = PReLU(data * weight + other), with one weight per channel of each sample as in
// squeeze and excitation, or none (null). It takes one pass; intermediate values are neither written nor kept.
#pragma once

#include "planes.h"

namespace vargfacenet {

inline void join_forward(const Planes& planes, const float* data, const float* weight, const float* other,
                         const float* slope, float* y) {
#pragma omp parallel for
  for (int64_t c = 0; c < planes.channels; ++c) {
    const float a = slope[c];
    for (int64_t n = 0; n < planes.batch; ++n) {
      const float w = weight ? weight[n * planes.channels + c] : 1;
      const float* from = data + planes.offset(n, c);
      const float* beside = other + planes.offset(n, c);
      float* to = y + planes.offset(n, c);
#pragma omp simd
      for (int64_t i = 0; i < planes.size; ++i) {
        const float z = from[i] * w + beside[i];
        to[i] = z > 0 ? z : a * z;
      }
    }
  }
}

// `ddata` and `dother` must differ: MXNet gives each its own memory.
inline void join_backward(const Planes& planes, const float* dy, const float* data, const float* weight,
                          const float* other, const float* slope, float* ddata, float* dweight, float* dother,
                          float* dslope) {
#pragma omp parallel for
  for (int64_t c = 0; c < planes.channels; ++c) {
    const float a = slope[c];
    double negative = 0;
    for (int64_t n = 0; n < planes.batch; ++n) {
      const float w = weight ? weight[n * planes.channels + c] : 1;
      const int64_t place = planes.offset(n, c);
      const float *above = dy + place, *from = data + place, *beside = other + place;
      float *to = ddata + place, *aside = dother + place;
      float first = 0, second = 0;
#pragma omp simd reduction(+ : first, second)
      for (int64_t i = 0; i < planes.size; ++i) {
        const float z = from[i] * w + beside[i];
        const float dz = z > 0 ? above[i] : a * above[i];
        first += z > 0 ? 0.0f : above[i] * z;
        second += dz * from[i];
        aside[i] = dz;
        to[i] = dz * w;
      }
      negative += first;
      if (weight) dweight[n * planes.channels + c] = second;
    }
    dslope[c] = static_cast<float>(negative);
  }
}

}  // namespace vargfacenet
