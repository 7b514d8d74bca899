// Batch normalisation over (N, ...) of each channel, Ioffe and Szegedy, arXiv 1502.03167, in training; alone, or with
// the PReLU that follows it: z = gamma * (x - mean) / sqrt(variance + eps) + beta; y = max(z, 0) + slope * min(z, 0).
#pragma once

#include <cmath>

#include "planes.h"

namespace vargfacenet {

struct Normalisation {
  float eps, momentum;
  bool fix_gamma;  // gamma counts as 1 and has no gradient
};

// The mean and the variance of a channel, in one pass. The sums are taken about the channel's first number, which
// keeps the digits of a mean that is large compared with the deviation.
inline void moments(const Planes& planes, const float* x, int64_t c, double* mean, double* variance) {
  const float pivot = x[planes.offset(0, c)];
  double sum = 0, squares = 0;
  for (int64_t n = 0; n < planes.batch; ++n) {
    const float* from = x + planes.offset(n, c);
    float first = 0, second = 0;
#pragma omp simd reduction(+ : first, second)
    for (int64_t i = 0; i < planes.size; ++i) {
      const float deviation = from[i] - pivot;
      first += deviation;
      second += deviation * deviation;
    }
    sum += first;
    squares += second;
  }
  const double shift = sum / planes.count();
  *mean = pivot + shift;
  *variance = std::fmax(squares / planes.count() - shift * shift, 0.0);
  if (std::isnan(squares)) *variance = squares;
}

// `slope` is null for normalisation alone. `saved` (2, C) keeps mean and 1 / sqrt(variance + eps) for the gradient;
// the running statistics move towards the batch's as MXNet's do.
inline void norm_forward(const Planes& planes, const Normalisation& norm, const float* x, const float* gamma,
                         const float* beta, const float* slope, float* running_mean, float* running_variance, float* y,
                         float* saved) {
#pragma omp parallel for
  for (int64_t c = 0; c < planes.channels; ++c) {
    double mean, variance;
    moments(planes, x, c, &mean, &variance);
    const double inverse = 1 / std::sqrt(variance + norm.eps);
    saved[c] = static_cast<float>(mean);
    saved[planes.channels + c] = static_cast<float>(inverse);
    running_mean[c] = running_mean[c] * norm.momentum + static_cast<float>(mean) * (1 - norm.momentum);
    running_variance[c] = running_variance[c] * norm.momentum + static_cast<float>(variance) * (1 - norm.momentum);

    const float scale = static_cast<float>(norm.fix_gamma ? inverse : gamma[c] * inverse);
    const float centre = saved[c], shift = beta[c];
    const float a = slope ? slope[c] : 1;
    for (int64_t n = 0; n < planes.batch; ++n) {
      const float* from = x + planes.offset(n, c);
      float* to = y + planes.offset(n, c);
      if (slope) {
#pragma omp simd
        for (int64_t i = 0; i < planes.size; ++i) {
          const float z = (from[i] - centre) * scale + shift;
          to[i] = z > 0 ? z : a * z;
        }
      } else {
#pragma omp simd
        for (int64_t i = 0; i < planes.size; ++i) to[i] = (from[i] - centre) * scale + shift;
      }
    }
  }
}

// With m the numbers in a channel, h = (x - mean) * inverse, and dz the gradient before PReLU:
// dx = gamma * inverse * (dz - sum(dz) / m - h * sum(dz * h) / m).
inline void norm_backward(const Planes& planes, const Normalisation& norm, const float* dy, const float* x,
                          const float* gamma, const float* beta, const float* slope, const float* saved, float* dx,
                          float* dgamma, float* dbeta, float* dslope) {
#pragma omp parallel for
  for (int64_t c = 0; c < planes.channels; ++c) {
    const float centre = saved[c], inverse = saved[planes.channels + c];
    const float scale = norm.fix_gamma ? inverse : gamma[c] * inverse;
    const float shift = beta[c];
    const float a = slope ? slope[c] : 1;
    double sum = 0, product = 0, negative = 0;  // of dz, dz * (x - mean), dy * min(z, 0)
    for (int64_t n = 0; n < planes.batch; ++n) {
      const float* from = x + planes.offset(n, c);
      const float* above = dy + planes.offset(n, c);
      float first = 0, second = 0, third = 0;
      if (slope) {
#pragma omp simd reduction(+ : first, second, third)
        for (int64_t i = 0; i < planes.size; ++i) {
          const float deviation = from[i] - centre;
          const float z = deviation * scale + shift;
          const float dz = z > 0 ? above[i] : a * above[i];
          first += dz;
          second += dz * deviation;
          third += z > 0 ? 0.0f : above[i] * z;
        }
      } else {
#pragma omp simd reduction(+ : first, second)
        for (int64_t i = 0; i < planes.size; ++i) {
          first += above[i];
          second += above[i] * (from[i] - centre);
        }
      }
      sum += first;
      product += second;
      negative += third;
    }
    dgamma[c] = norm.fix_gamma ? 0 : static_cast<float>(product * inverse);
    dbeta[c] = static_cast<float>(sum);
    if (slope) dslope[c] = static_cast<float>(negative);

    const float mean_dz = static_cast<float>(sum / planes.count());
    const float pull = static_cast<float>(product * inverse * inverse / planes.count());
    for (int64_t n = 0; n < planes.batch; ++n) {
      const float* from = x + planes.offset(n, c);
      const float* above = dy + planes.offset(n, c);
      float* to = dx + planes.offset(n, c);
      if (slope) {
#pragma omp simd
        for (int64_t i = 0; i < planes.size; ++i) {
          const float deviation = from[i] - centre;
          const float dz = deviation * scale + shift > 0 ? above[i] : a * above[i];
          to[i] = scale * (dz - mean_dz - deviation * pull);
        }
      } else {
#pragma omp simd
        for (int64_t i = 0; i < planes.size; ++i) to[i] = scale * (above[i] - mean_dz - (from[i] - centre) * pull);
      }
    }
  }
}

}  // namespace vargfacenet
