// Squeeze and excitation [Hu et al., arXiv 1709.01507] up to the weights of the channels: means of the planes, a linear
// layer with PReLU, another one with a sigmoid. For a single image these small steps cost more as operators of their own.
#pragma once

#include <cmath>
#include <vector>

#include "planes.h"

namespace vargfacenet {

// A linear layer of few numbers: weight (out, in), bias (out).
struct Linear {
  const float *weight, *bias;
  int64_t in, out;

  float row(int64_t r, const float* x) const {
    const float* numbers = weight + r * in;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < in; ++i) sum += numbers[i] * x[i];
    return sum + bias[r];
  }
};

// x (N, C, ...) -> y (N, C); `slope` is the PReLU's, one per output of `squeeze`.
inline void excitation_forward(const Planes& planes, const float* x, const Linear& squeeze, const float* slope,
                               const Linear& excite, float* y) {
#pragma omp parallel for if (planes.batch > 1)
  for (int64_t n = 0; n < planes.batch; ++n) {
    std::vector<float> numbers(planes.channels + squeeze.out);
    float *means = numbers.data(), *middle = means + planes.channels;
    for (int64_t c = 0; c < planes.channels; ++c) {
      const float* from = x + planes.offset(n, c);
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < planes.size; ++i) sum += from[i];
      means[c] = sum / planes.size;
    }
    for (int64_t r = 0; r < squeeze.out; ++r) {
      const float z = squeeze.row(r, means);
      middle[r] = z > 0 ? z : slope[r] * z;
    }
    for (int64_t c = 0; c < planes.channels; ++c) {
      y[n * planes.channels + c] = 1 / (1 + std::exp(-excite.row(c, middle)));
    }
  }
}

}  // namespace vargfacenet
