// PReLU with a slope per channel, He et al., arXiv 1502.01852: y = max(x, 0) + slope * min(x, 0).
#pragma once

#include "planes.h"

namespace vargfacenet {

inline void prelu_forward(const Planes& planes, const float* x, const float* slope, float* y) {
#pragma omp parallel for
  for (int64_t c = 0; c < planes.channels; ++c) {
    const float a = slope[c];
    for (int64_t n = 0; n < planes.batch; ++n) {
      const float* from = x + planes.offset(n, c);
      float* to = y + planes.offset(n, c);
#pragma omp simd
      for (int64_t i = 0; i < planes.size; ++i) to[i] = from[i] > 0 ? from[i] : a * from[i];
    }
  }
}

inline void prelu_backward(const Planes& planes, const float* dy, const float* x, const float* slope, float* dx,
                           float* dslope) {
#pragma omp parallel for
  for (int64_t c = 0; c < planes.channels; ++c) {
    const float a = slope[c];
    double sum = 0;
    for (int64_t n = 0; n < planes.batch; ++n) {
      const float* from = x + planes.offset(n, c);
      const float* above = dy + planes.offset(n, c);
      float* to = dx + planes.offset(n, c);
      float partial = 0;
#pragma omp simd reduction(+ : partial)
      for (int64_t i = 0; i < planes.size; ++i) {
        const bool positive = from[i] > 0;
        to[i] = positive ? above[i] : a * above[i];
        partial += positive ? 0.0f : above[i] * from[i];
      }
      sum += partial;
    }
    dslope[c] = static_cast<float>(sum);
  }
}

}  // namespace vargfacenet
